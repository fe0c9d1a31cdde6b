"""``manage.py tailrace_simulate``: devices and visitors that are not there."""

from __future__ import annotations

import random
import threading
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError

from tailrace.backends.model_tables import ModelTable, table_of
from tailrace.backends.written_models import is_reading, written_models
from tailrace.django_integration.management.base import TailraceCommand
from tailrace.django_integration.simulation.curves import CannotSimulate
from tailrace.django_integration.simulation.devices import Fleet, Sent, make_devices, messages
from tailrace.django_integration.simulation.progress import Progress
from tailrace.django_integration.simulation.web import (
    Tally,
    Visitor,
    discovered_paths,
    http_getter,
    in_process_getter,
)
from tailrace.pipeline import flush, store_reading
from tailrace.pipeline.context import enter_trace, leave_trace
from tailrace.pipeline.recording import configured

WEB = "web"
_FLUSH_READINGS = 2_000
"""A loop that only records is faster than the flusher: without waiting for it now and then,
readings would fall out of the buffer."""
_INTERRUPTED = 130


class Command(TailraceCommand):
    """Simulate devices or web traffic, through the real pipeline."""

    help = (
        "Simulate devices (give a type of readings, such as weatherstation, or app.Model) or "
        "web traffic (web). What they do goes the way of everything else: recorded here, "
        "through Redis, and stored by the next drain."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", help="a type of readings, app_label.Model, or web")
        parser.add_argument("--duration", type=_positive, default=60.0, metavar="SECONDS")
        parser.add_argument("--seed", type=int, help="the same numbers again")
        devices = parser.add_argument_group("devices")
        devices.add_argument("--count", type=int, default=10, help="devices (10)")
        devices.add_argument("--interval", type=_positive, default=5.0, metavar="SECONDS")
        devices.add_argument("--prefix", default="sim-", help="of their identifiers (sim-)")
        devices.add_argument("--realistic", action="store_true", help="curves of a day, and gaps")
        devices.add_argument(
            "--fast", action="store_true", help="do not wait: the duration ends now"
        )
        devices.add_argument("--clock-skew", type=_amount, default=0.0, metavar="SECONDS")
        devices.add_argument("--late", type=_share, default=0.0, metavar="SHARE", help="0 to 1")
        devices.add_argument("--duplicates", type=_share, default=0.0, metavar="SHARE")
        web = parser.add_argument_group("web traffic")
        web.add_argument("--url", help="of a running server; without it, in this process")
        web.add_argument("--rate", type=_positive, default=10.0, help="requests a second (10)")
        web.add_argument("--visitors", type=int, default=4, help="at the same time (4)")
        web.add_argument("--path", action="append", help="which; may be repeated")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == WEB:
            self._web(options)
        else:
            self._devices(options)

    # --- devices

    def _devices(self, options: dict[str, Any]) -> None:
        if configured() is None:
            raise CommandError("nothing is recorded: TAILRACE['ENABLED'] is off")
        if options["count"] < 1:
            raise CommandError("--count is the number of devices; write at least 1")
        table = _reading_table(options["what"])
        fleet = Fleet(
            count=options["count"],
            interval_seconds=options["interval"],
            duration_seconds=options["duration"],
            is_realistic=options["realistic"],
            clock_skew_seconds=options["clock_skew"],
            late=options["late"],
            duplicates=options["duplicates"],
            seed=_seed(options),
        )
        counts: Counter[str] = Counter()
        progress = Progress(self.stderr, fleet.rounds * fleet.count, "readings")
        try:
            keys = make_devices(table, fleet.count, options["prefix"])
            with self._interruptible() as was_interrupted, progress:
                self._send(table, fleet, keys, progress, counts, options["fast"])
        except (CannotSimulate, ValueError) as error:
            raise CommandError(str(error)) from error
        arrived = flush(30)
        self.stdout.write(
            f"{progress.done:,} readings of {fleet.count:,} devices in {progress.seconds:.1f} s "
            f"({progress.rate:,.0f}/s): {counts['late']:,} late, {counts['twice']:,} duplicates; "
            f"seed {fleet.seed}"
        )
        self._tell_where(arrived)
        was_interrupted()

    def _send(
        self,
        table: ModelTable,
        fleet: Fleet,
        devices: list[Any],
        progress: Progress,
        counts: Counter[str],
        is_fast: bool,
    ) -> None:
        start = datetime.now(UTC)
        if is_fast:
            start -= timedelta(seconds=fleet.duration_seconds)
        started = time.monotonic()
        for sent in messages(fleet, table, devices, start):
            if not is_fast:
                _wait_until(started + sent.round * fleet.interval_seconds)
            _record(table, sent)
            progress.advance()
            counts["late"] += sent.is_late
            counts["twice"] += sent.is_duplicate
            if progress.done % _FLUSH_READINGS == 0:
                flush(30)

    # --- web traffic

    def _web(self, options: dict[str, Any]) -> None:
        paths = options["path"] or discovered_paths()
        if not paths:
            raise CommandError("no route of the project works without arguments; give --path")
        try:
            make = http_getter(options["url"]) if options["url"] else in_process_getter()
        except ValueError as error:
            raise CommandError(str(error)) from error
        total = max(1, round(options["rate"] * options["duration"]))
        tally, progress = Tally(), Progress(self.stderr, total, "requests")
        # In this process, one after the other: a database in memory belongs to one thread.
        visitors = max(1, options["visitors"]) if options["url"] else 1
        with self._interruptible() as was_interrupted, progress:
            traffic = _Traffic(paths, total, options["rate"], _seed(options), tally)
            traffic.run(make, visitors, progress)
        found = ", ".join(f"{status}: {n:,}" for status, n in sorted(tally.statuses.items()))
        self.stdout.write(
            f"{progress.done:,} requests to {len(paths)} paths in {progress.seconds:.1f} s "
            f"({progress.rate:,.1f}/s): {found or 'none'}"
        )
        if not options["url"]:
            self._tell_where(flush(30))
        was_interrupted()

    # --- both

    def _tell_where(self, has_arrived: bool) -> None:
        if has_arrived:
            self.stdout.write("all of it is in Redis; a worker or tailrace_drain stores it")
        else:
            self.stdout.write("Redis did not take all of it yet; the rest waits in the spool")

    @contextmanager
    def _interruptible(self) -> Iterator[Callable[[], None]]:
        """Let Ctrl-C end the simulation, but not the summary."""
        interrupted = False

        def end() -> None:
            if interrupted:
                raise SystemExit(_INTERRUPTED)

        try:
            yield end
        except KeyboardInterrupt:
            interrupted = True
            self.stderr.write("interrupted")


class _Traffic:
    """Visitors who share a plan: request number n goes out at its time."""

    def __init__(self, paths: list[str], total: int, rate: float, seed: int, tally: Tally) -> None:
        self._chance = random.Random(seed)
        self._paths = paths
        self._total, self._rate = total, rate
        self._tally = tally
        self._next = 0
        self._lock = threading.Lock()
        self._is_stopped = threading.Event()
        self._started = time.monotonic()

    def run(self, make: Visitor, visitors: int, progress: Progress) -> None:
        """Send all requests, and come back when they are answered, or on Ctrl-C."""
        if visitors == 1:
            with _recorded():
                self._visit(make, progress)
            return
        threads = [
            threading.Thread(target=self._visit, args=(make, None), daemon=True)
            for _ in range(visitors)
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.05)
                progress.advance(self._tally.statuses.total() - progress.done)
        finally:
            self._is_stopped.set()
            for thread in threads:
                thread.join(5)
            progress.advance(self._tally.statuses.total() - progress.done)

    def _visit(self, visitor: Visitor, progress: Progress | None) -> None:
        with visitor() as get:
            while (plan := self._take()) is not None:
                due, path = plan
                if self._is_stopped.wait(max(0.0, due - time.monotonic())):
                    return
                self._tally.count(get(path))
                if progress is not None:
                    progress.advance()

    def _take(self) -> tuple[float, str] | None:
        with self._lock:
            if self._next >= self._total:
                return None
            due = self._started + self._next / self._rate
            self._next += 1
            return due, self._chance.choice(self._paths)


@contextmanager
def _recorded() -> Iterator[None]:
    """Record what happens in the block: commands of ours are otherwise not recorded."""
    token = enter_trace(None)
    try:
        yield
    finally:
        leave_trace(token)


def _record(table: ModelTable, sent: Sent) -> None:
    token = enter_trace(None)
    store_reading(table.model, sent.device, sent.timestamp, sent.data)
    leave_trace(token)


def _reading_table(name: str) -> ModelTable:
    known = {key: model for key, model in written_models().items() if is_reading(model)}
    labels = {model._meta.label_lower: model for model in known.values()}
    model = known.get(name) or known.get(name.lower()) or labels.get(name.lower())
    if model is None:
        listed = ", ".join(f"{key} ({its._meta.label})" for key, its in sorted(known.items()))
        raise CommandError(
            f"no model of readings is called {name!r}; there are: {listed or 'none yet'}. For "
            "web traffic, write: tailrace_simulate web"
        )
    return table_of(model)


def _wait_until(moment: float) -> None:
    pause = moment - time.monotonic()
    if pause > 0:
        time.sleep(pause)


def _seed(options: dict[str, Any]) -> int:
    return int(random.randrange(2**32) if options["seed"] is None else options["seed"])


def _amount(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"{text} is no amount; write 0 or more")
    return number


def _positive(text: str) -> float:
    number = _amount(text)
    if number == 0:
        raise ArgumentTypeError("write more than 0")
    return number


def _share(text: str) -> float:
    number = _amount(text)
    if number > 1:
        raise ArgumentTypeError(f"{text} is no share; write a number from 0 to 1")
    return number
