"""Deleting millions of rows while the drain writes: no tick of the drain is held up.

::

    python -m benchmarks.bench_retention --rows 5000000 --engine sqlite --kills 3

A process sweeps; it is killed with SIGKILL now and then, and started again. This process drains
small batches all the time, and measures each. At the end what was to go has gone, what was to
stay is there, and every drained event is there once.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.retention_site import TESTS_DIR, counts, database, environment_of, fill, manage

BAR_SECONDS = 0.5
BATCH_EVENTS = 200
BATCHES_A_SECOND = 5
_SHOWN = 10
_IDLE_SECONDS = 30
"""How long it drains before the sweep begins: what the machine does by itself."""


class Outcome(NamedTuple):
    """What was measured."""

    engine: str
    rows: int
    sweep_seconds: float
    kills: int
    ticks: list[float]
    """Seconds that each drained batch took."""
    idle_ticks: list[float]
    """... before the sweep began."""
    longest_slice_seconds: float
    slow_slices: list[tuple[float, float]]
    """When those of more than 200 ms ended, by the clock, and what they took."""
    slow_ticks: list[tuple[float, float]]
    """The same of the drain's of more than half a second."""

    @property
    def is_within_bar(self) -> bool:
        """Whether no tick was delayed by more than half a second."""
        return max(self.ticks) <= BAR_SECONDS + statistics.median(self.idle_ticks)

    def __str__(self) -> str:
        def ms(seconds: float) -> str:
            return f"{seconds * 1000:.0f} ms"

        ticks, idle = sorted(self.ticks), sorted(self.idle_ticks)
        return (
            f"{self.engine}: {self.rows} rows deleted in {self.sweep_seconds:.0f} s "
            f"({self.rows / self.sweep_seconds:.0f}/s), {self.kills} times killed; drain ticks: "
            f"{len(ticks)}, median {ms(statistics.median(ticks))}, "
            f"p99 {ms(ticks[int(len(ticks) * 0.99)])}, longest {ms(ticks[-1])} (without a sweep: "
            f"median {ms(statistics.median(idle))}, longest {ms(idle[-1])}); longest slice "
            f"{ms(self.longest_slice_seconds)}; "
            f"{'within' if self.is_within_bar else 'NOT WITHIN'} the bar; load {os.getloadavg()}\n"
            f"  slices of more than 200 ms: {_shown(self.slow_slices)}\n"
            f"  ticks of more than 500 ms: {_shown(self.slow_ticks)}"
        )


def _shown(found: list[tuple[float, float]]) -> str:
    longest = sorted(found, key=lambda each: -each[1])[:_SHOWN]
    times = ", ".join(
        f"{seconds * 1000:.0f} ms at {time.strftime('%H:%M:%S', time.gmtime(at))}"
        for at, seconds in longest
    )
    return f"{len(found)}; the longest: {times}" if found else "none"


def measure(engine: str, url: str, directory: Path, rows: int, kills: int) -> Outcome:
    """Fill a database, sweep it while draining, and compare what is left.

    Args:
        engine: ``sqlite`` or ``postgres``.
        url: Of an empty PostgreSQL database; empty for SQLite.
        directory: For the site's files.
        rows: How many old rows to delete.
        kills: How often the sweeping process is killed.

    Raises:
        AssertionError: rows are missing, doubled, or were left.
    """
    environment = environment_of(directory, url)
    manage(environment, "migrate", "--verbosity=0")
    manage(environment, "migrate", "--database=telemetry", "--verbosity=0")
    held = fill(engine, url, directory, rows)
    drain = _Drain(environment)
    try:
        idle = drain.run(lambda: drain.ticks_done < BATCHES_A_SECOND * _IDLE_SECONDS)
        started = time.monotonic()
        ticks, killed = _sweep_meanwhile(environment, drain, kills)
        seconds = time.monotonic() - started
        ticks += drain.run(lambda: drain.ticks_done < BATCHES_A_SECOND * 2)
    finally:
        drain.stop()
    left = counts(engine, url, directory)
    assert left["old"] == held, f"{left['old']} old rows are left, not the {held} that are held"
    assert left["new"] == drain.events, f"{left['new']} drained rows, not {drain.events}"
    slow = _slow_slices(environment)
    longest = max((seconds for _, seconds in slow), default=_longest_slice(environment))
    return Outcome(engine, rows - held, seconds, killed, ticks, idle, longest, slow, drain.slow)


def _sweep_meanwhile(
    environment: dict[str, str], drain: _Drain, kills: int
) -> tuple[list[float], int]:
    ticks: list[float] = []
    killed = 0
    randomly = random.Random()
    while True:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--sweep"],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        due = time.monotonic() + randomly.uniform(3, 8)
        while process.poll() is None:
            ticks += drain.run(lambda: drain.ticks_done < BATCHES_A_SECOND)
            if killed < kills and time.monotonic() > due:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
                break
        else:
            if process.returncode == 0:
                return ticks, killed
            raise AssertionError(f"the sweep ended with status {process.returncode}")


class _Drain:
    """A process of its own that stores batches and tells how long each took."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--drain"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.events = 0
        self.ticks_done = 0
        self.slow: list[tuple[float, float]] = []

    def run(self, goes_on: Any) -> list[float]:
        """Drain a batch every so often; return what each took, in seconds."""
        self.ticks_done = 0
        found = []
        while goes_on():
            began = time.monotonic()
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write("drain\n")
            self._process.stdin.flush()
            found.append(float(self._process.stdout.readline()))
            if found[-1] > BAR_SECONDS:
                self.slow.append((time.time(), found[-1]))
            self.events += BATCH_EVENTS
            self.ticks_done += 1
            time.sleep(max(0.0, 1 / BATCHES_A_SECOND - (time.monotonic() - began)))
        return found

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


# --- what the two processes do


def _do_drain() -> None:
    _set_up()
    from tailrace.backends.registry import get_backend
    from tailrace.pipeline.checkpoint import Checkpoint
    from tailrace.pipeline.event import Event

    backend = get_backend("default")
    backend.create_checkpoint(Checkpoint(0))
    for number, _ in enumerate(sys.stdin, 1):
        now = time.time_ns()
        events = [
            Event("bench", now + at, {"kind": "new"}, {"n": at}, id=uuid.uuid4().bytes)
            for at in range(BATCH_EVENTS)
        ]
        started = time.monotonic()
        with backend.transaction(0) as tx:
            tx.write(events)
            tx.advance(Checkpoint(0, f"{number}-0", "e", tx.checkpoint.created_ns), [])
        print(time.monotonic() - started, flush=True)


def _do_sweep() -> None:
    _set_up()
    from django.apps import apps

    from tailrace.backends.registry import get_backend
    from tailrace.django_integration.conf import get_config
    from tailrace.django_integration.rollup_chores import declared_policies

    # Whoever takes over from one that was killed need not wait for a minute here.
    jobs: Any = apps.get_model("tailrace", "Job")._base_manager
    jobs.update(expires_us=0)
    backend: Any = get_backend("default")
    _note_slow_slices(Path(os.environ["PROJECT_DATA_DIR"]) / "slow_slices")
    path = Path(os.environ["PROJECT_DATA_DIR"]) / "longest_slice"
    longest = float(path.read_text()) if path.exists() else 0.0
    while True:
        report = backend.sweep(declared_policies(get_config()), seconds=20)
        longest = max(longest, report.longest_slice_seconds)
        path.write_text(str(longest))
        if report.is_finished and not report.is_skipped:
            return


def _note_slow_slices(path: Path) -> None:
    from tailrace.backends.retention.slices import SLICE_SECONDS, Pace

    ran = Pace._ran

    def noted(self: Any, seconds: float) -> None:
        if seconds > SLICE_SECONDS:
            with path.open("a") as lines:
                lines.write(f"{time.time()} {seconds}\n")
        ran(self, seconds)

    Pace._ran = noted  # type: ignore[method-assign]


def _set_up() -> None:
    sys.path.insert(0, str(TESTS_DIR))
    import django
    from django.conf import settings

    settings.TAILRACE["ENABLED"] = False
    if os.environ["DATABASE_URL"]:
        store = "tailrace.backends.postgres.PostgresBackend"
        settings.TAILRACE["BACKENDS"] = {"default": {"BACKEND": store}}
    django.setup()


# --- what the sweep left


def _longest_slice(environment: dict[str, str]) -> float:
    return float((Path(environment["PROJECT_DATA_DIR"]) / "longest_slice").read_text())


def _slow_slices(environment: dict[str, str]) -> list[tuple[float, float]]:
    path = Path(environment["PROJECT_DATA_DIR"]) / "slow_slices"
    if not path.exists():
        return []
    pairs = (line.split() for line in path.read_text().splitlines())
    return [(float(at), float(seconds)) for at, seconds in pairs]


def main() -> None:
    """Run it on both engines, or on what the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=["sqlite", "postgres"])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--drain", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sweep", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drain or options.sweep:
        _do_drain() if options.drain else _do_sweep()
        return
    for engine in [options.engine] if options.engine else ["sqlite", "postgres"]:
        with tempfile.TemporaryDirectory() as directory, database(engine) as url:
            print(measure(engine, url, Path(directory), options.rows, options.kills), flush=True)


if __name__ == "__main__":
    main()
