"""``make demo``: the main job on real input, with the ledger as its last line.

Starts a Redis, the shop under gunicorn, a Celery worker, beat, and visitors; ends them in
the order in which nothing is lost; then asks whether every event can be accounted for.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from servers import RedisServer, ServerUnavailableError, find_program, free_port

from project.ledger_line import Ledger, LedgerLineError
from project.processes import Process, ProcessError, own_directory, run

TESTS_DIR = Path(__file__).resolve().parent.parent
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 30.0
# Visitors finish the page they are on, and one page of theirs is slow on purpose.
TRAFFIC_STOP_TIMEOUT_SECONDS = 60.0
DRAIN_TIMEOUT_SECONDS = 60.0
DRAIN_POLL_SECONDS = 0.5
USERNAME = "demo"


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    directory: Path
    duration_seconds: float
    port: int
    rate: float
    visitors: int
    workers: int
    threads: int


class Demo:
    """All processes of the demo and the order of their beginning and end."""

    def __init__(self, options: Options, stop: threading.Event) -> None:
        """Prepare a demo that runs for its duration, or until ``stop`` is set."""
        self.options = options
        self.stop = stop
        self.directory = options.directory
        self.redis = RedisServer(
            self.directory / "redis",
            config={"maxmemory": "256mb", "maxmemory-policy": "noeviction"},
        )
        self.port = options.port
        self.password = secrets.token_urlsafe(6)
        self.env: dict[str, str] = {}
        self.running: list[Process] = []
        self.problems: list[str] = []

    def run(self) -> bool:
        """Run it all; return whether the books balance."""
        try:
            self.set_up()
            self.serve()
            answered = self.wind_down()
            return self.settle(answered)
        finally:
            for process in reversed(self.running):
                process.kill()
            self.redis.stop()

    def set_up(self) -> None:
        """Start Redis, make the database and fill the shop."""
        self.redis.start()
        program = self.redis.program
        say(f"{program.kind}-server ({program.source}) on {self.redis.url()}")
        (self.directory / "tmp").mkdir()
        self.env = self._environment()
        self._write_env_file()
        self.manage("migrate", "--verbosity=0")
        seeded = self.manage("shop_seed", f"--username={USERNAME}", f"--password={self.password}")
        say(seeded.strip())

    def serve(self) -> None:
        """Start web, worker, beat and visitors; wait for the end."""
        self.port = self.port or free_port()
        web = self.start("web", "gunicorn", *self._gunicorn_arguments())
        self._wait_for_web(web)
        celery = ("celery", "-A", "project.celery")
        self.start("worker", *celery, "worker", "--concurrency=2", "--loglevel=INFO")
        schedule = f"--schedule={self.directory / 'beat-schedule'}"
        self.start("beat", *celery, "beat", "--loglevel=INFO", "--pidfile=", schedule)
        self.start(
            "traffic",
            "project.traffic",
            f"--url={self.url}",
            f"--rate={self.options.rate}",
            f"--visitors={self.options.visitors}",
        )
        self._announce()
        end = time.monotonic() + (self.options.duration_seconds or float("inf"))
        while time.monotonic() < end and not self.stop.wait(0.2):
            for process in self.running:
                process.check()

    def wind_down(self) -> int:
        """End everything but Redis; return how many requests were answered."""
        say("stopping: traffic, web, (drain), worker, beat")
        traffic = self.end("traffic", TRAFFIC_STOP_TIMEOUT_SECONDS)
        sent = json.loads(traffic.output().splitlines()[-1])
        say(f"visitors: {json.dumps(sent)}")
        self.end("web")
        self._wait_until_drained()
        self.end("worker")
        self.end("beat")
        # The worker's own last events left it as it ended, so nobody was there to drain them.
        self.manage("tailrace_drain", "--until-empty")
        return int(sent["answered"])

    def settle(self, answered: int) -> bool:
        """Compare the ledger with what is in the table; print it as the last line.

        Args:
            answered: how many requests visitors got an answer to.

        Returns:
            Whether the ledger balances and agrees with the rows.
        """
        ledger = self.ledger()
        counts = json.loads(self.manage("shop_count_events"))
        self.problems += ledger.problems(
            rows=counts["rows"], requests=counts["requests"], answered=answered
        )
        for problem in self.problems:
            say(f"NOT BALANCED: {problem}")
        say(f"rows: {json.dumps(counts)}")
        self.redis.stop()
        print(ledger.line(is_balanced=not self.problems), flush=True)
        return not self.problems

    def start(self, name: str, module: str, *arguments: str) -> Process:
        """Start ``python -m module arguments`` under a name."""
        command = [sys.executable, "-m", module, *arguments]
        process = Process(name, command, self.env, self.directory)
        self.running.append(process)
        return process

    def end(self, name: str, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> Process:
        """End the process of that name in good order, and return it."""
        process = next(process for process in self.running if process.name == name)
        process.stop(timeout_seconds)
        self.running.remove(process)
        return process

    def manage(self, *arguments: str) -> str:
        """Run a management command and return its output."""
        command = [sys.executable, str(TESTS_DIR / "manage.py"), *arguments]
        return run(arguments[0], command, self.env, self.directory)

    def ledger(self) -> Ledger:
        """Ask ``tailrace_status --ledger``, which exits with 1 while it does not balance."""
        command = [sys.executable, str(TESTS_DIR / "manage.py"), "tailrace_status", "--ledger"]
        return Ledger.parse(
            run("tailrace_status", command, self.env, self.directory, ok_statuses=(0, 1))
        )

    @property
    def url(self) -> str:
        """Where the shop is."""
        return f"http://127.0.0.1:{self.port}"

    def _environment(self) -> dict[str, str]:
        # A DATABASE_URL of the caller's shell is not for this.
        inherited = {key: text for key, text in os.environ.items() if not key.endswith("_URL")}
        return {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DJANGO_SECRET_KEY": secrets.token_urlsafe(32),
            "PROJECT_DATA_DIR": str(self.directory),
            "TAILRACE_REDIS_URL": self.redis.url(0),
            "CELERY_BROKER_URL": self.redis.url(1),
            "SHOP_SENDS_RECEIPTS": "1",
            # Whatever is spooled or kept for a moment stays within the demo's folder.
            "TMPDIR": str(self.directory / "tmp"),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(TESTS_DIR), os.environ.get("PYTHONPATH")])
            ),
            "PYTHONUNBUFFERED": "1",
        }

    def _write_env_file(self) -> None:
        """Write what ``make manage`` needs to look into the running demo."""
        names = ["PROJECT_DATA_DIR", "TAILRACE_REDIS_URL", "CELERY_BROKER_URL"]
        lines = "".join(f"export {name}='{self.env[name]}'\n" for name in names)
        (self.directory / "env").write_text(lines)

    def _gunicorn_arguments(self) -> list[str]:
        return [
            "project.wsgi",
            f"--bind=127.0.0.1:{self.port}",
            f"--workers={self.options.workers}",
            f"--threads={self.options.threads}",
            "--keep-alive=30",
            f"--graceful-timeout={int(STOP_TIMEOUT_SECONDS) - 5}",
        ]

    def _wait_for_web(self, web: Process) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            web.check()
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with contextlib.closing(connection), contextlib.suppress(OSError):
                connection.request("GET", "/health/")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return
            time.sleep(0.1)
        raise ProcessError(f"web gives no answer on {self.url}; see {web.log_path}")

    def _wait_until_drained(self) -> None:
        started = time.monotonic()
        while time.monotonic() < started + DRAIN_TIMEOUT_SECONDS:
            if self.ledger().in_flight == 0:
                say(f"drained {time.monotonic() - started:.1f} s after the last request")
                return
            time.sleep(DRAIN_POLL_SECONDS)
        self.problems.append(
            f"the worker has not drained everything in {DRAIN_TIMEOUT_SECONDS:g} s; "
            f"see {self.directory}/logs/worker.log and beat.log"
        )

    def _announce(self) -> None:
        ends = self.options.duration_seconds
        say(
            f"""running. Visitors send {self.options.rate:g} requests a second.

    the shop      {self.url}/
    its events    {self.url}/admin/tailrace/event/
    the admin     {self.url}/admin/      user: {USERNAME}   password: {self.password}
    the pipeline  make manage ARGS=tailrace_status     (in another terminal)
    logs          {self.directory}/logs/

    {f"It ends by itself in {ends:g} s." if ends else "Ctrl-C ends it."}
"""
        )


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"demo: {text}", flush=True)


def parse_options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=TESTS_DIR.parent / ".demo")
    parser.add_argument("--duration", type=float, default=0.0, help="seconds; 0 is until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="of the shop; 0 takes a free one")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--visitors", type=int, default=6)
    parser.add_argument("--workers", type=int, default=3, help="gunicorn processes")
    parser.add_argument("--threads", type=int, default=4, help="threads of each")
    found = parser.parse_args()
    return Options(
        directory=found.directory.resolve(),
        duration_seconds=found.duration,
        port=found.port,
        rate=found.rate,
        visitors=found.visitors,
        workers=found.workers,
        threads=found.threads,
    )


def main() -> int:
    """Run the demo; return 0 only if every event is accounted for."""
    options, stop = parse_options(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        find_program()
        with own_directory(options.directory):
            return 0 if Demo(options, stop).run() else 1
    except (ProcessError, ServerUnavailableError, LedgerLineError) as error:
        print(f"demo: {error}", file=sys.stderr, flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
