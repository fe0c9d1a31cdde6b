"""Child processes of the demo: each with a log, started and ended in order."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

LOG_TAIL_CHARACTERS = 3_000
# A folder without this file was not made by the demo, and is not emptied by it.
MARKER = ".tailrace-demo"


class ProcessError(RuntimeError):
    """A process of the demo failed; the message has the end of its log."""


class Process:
    """One long-running child process."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], directory: Path
    ) -> None:
        """Start the process.

        Args:
            name: what it is called in messages; its log is ``logs/<name>.log``.
            command: the program and its arguments.
            env: its whole environment.
            directory: where it runs, and where ``logs/`` is made.
        """
        self.name = name
        self.log_path = directory / "logs" / f"{name}.log"
        self.log_path.parent.mkdir(exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=env,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the whole group. These processes are to end
                # one after the other instead, so each is the leader of a session.
                start_new_session=True,
            )

    @property
    def exit_status(self) -> int | None:
        """The exit status, or ``None`` while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Do nothing while it runs.

        Raises:
            ProcessError: it has ended.
        """
        if self.exit_status is not None:
            raise ProcessError(self._message(f"has ended with status {self.exit_status}"))

    def stop(self, timeout_seconds: float) -> None:
        """End it with SIGTERM and wait.

        Raises:
            ProcessError: it did not end in time (it is killed then), or had ended before.
        """
        self.check()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ProcessError(self._message(f"did not stop in {timeout_seconds} s")) from error

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self.exit_status is None:
            self._process.kill()
        self._process.wait()

    def output(self) -> str:
        """Return what it has written so far."""
        return self.log_path.read_text(errors="replace")

    def _message(self, what: str) -> str:
        return f"{self.name} {what}. {self.log_path} ends with:\n{tail(self.output())}"


def run(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str],
    directory: Path,
    ok_statuses: Collection[int] = (0,),
) -> str:
    """Run a command to its end, and return what it wrote on stdout.

    Raises:
        ProcessError: its exit status is none of ``ok_statuses``; the message has what it wrote.
    """
    done = subprocess.run(
        command, env=env, cwd=directory, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode not in ok_statuses:
        raise ProcessError(
            f"{name} failed with status {done.returncode}:\n{tail(done.stdout + done.stderr)}"
        )
    return done.stdout


def tail(text: str) -> str:
    """Return the end of a log."""
    return text[-LOG_TAIL_CHARACTERS:]


@contextlib.contextmanager
def own_directory(directory: Path) -> Iterator[None]:
    """Empty the demo's directory and keep it for this run alone.

    Raises:
        ProcessError: something else is in it, or another demo runs in it.
    """
    marker = directory / MARKER
    if directory.exists() and any(directory.iterdir()) and not marker.exists():
        raise ProcessError(f"{directory} has other things in it; choose another directory.")
    directory.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProcessError(f"Another demo runs in {directory}; stop it first.") from error
        for entry in directory.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != marker:
                entry.unlink()
        yield
