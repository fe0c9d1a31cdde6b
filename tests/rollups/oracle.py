"""What rollups must hold, computed the slow and obvious way, and a world that things happen in.

After whatever has happened, each bucket that is not in its level's logs must hold what the events
of that bucket come to. Events count that were stored while their time was above the floor; those
that retention has dropped since still do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from rollups.conftest import Engine, event
from tailrace.backends.private_connection import close_private_connections, private_connection
from tailrace.backends.retention.floor import raise_floor
from tailrace.backends.rollups import log
from tailrace.backends.rollups.grid import grid_of
from tailrace.backends.rollups.groups import group_text
from tailrace.backends.rollups.invalidation import invalidate_times
from tailrace.backends.rollups.partial import COLUMNS, ROWS, Partial
from tailrace.backends.rollups.ranges import MAX_US, MIN_US, Range, common, datetime_of, us_of
from tailrace.pipeline import faults
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import Event
from tailrace.pipeline.rollup import Rollup

MOMENTS = (
    datetime(2024, 10, 27, 1, tzinfo=UTC),  # Berlin puts its clock back
    datetime(2024, 3, 31, 1, tzinfo=UTC),  # and forward
    datetime(2024, 11, 3, 6, tzinfo=UTC),  # New York
    datetime(2009, 11, 1, 2, 31, tzinfo=UTC),  # St. John's, over midnight
    datetime(2023, 12, 31, 23, 30, tzinfo=UTC),  # a year, a month, a week
)
END_US = us_of(datetime(2025, 6, 1, tzinfo=UTC))
"""After everything."""
ROLLUPS: tuple[dict[str, Any], ...] = (
    {"widths": ("15 minutes", "1 hour", "1 day", "1 month"), "time_zone": "Europe/Berlin"},
    {"widths": ("1 hour", "6 hours", "1 day", "1 week"), "time_zone": "America/New_York"},
    {"widths": ("1 day", "1 week"), "time_zone": "America/St_Johns"},
    {"widths": ("1 minute", "1 hour", "1 day")},
    {"widths": ("2 hours", "1 day", "1 year"), "time_zone": "Australia/Lord_Howe"},
)
POINTS_BETWEEN = (
    *("refresh_threshold_moved", "refresh_planned", "refresh_computed", "refresh_committed"),
)
"""Where a refresh is in no transaction, so that others can come between."""
POINTS = (
    *POINTS_BETWEEN,
    *("refresh_threshold", "refresh_log_copied", "refresh_deleted", "refresh_before_commit"),
    "late_noted",
)

Values = dict[tuple[Any, str, str], list[Any]]


class Step(NamedTuple):
    """Something that happens: a method of :class:`World`, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()
    fault: str = ""
    """Where it dies."""
    after: int = 0
    """Let so many passes of that point through."""
    between: tuple[str, Any] | None = None
    """At which point another step happens, on a connection of its own, and which."""


class World:
    """A database with a rollup or two, and all events that ever came."""

    def __init__(self, engine: Engine, choices: Sequence[int]) -> None:
        engine.empty()
        self.engine = engine
        self.backend = engine.backend()
        self.kept: list[Event] = []
        """Events that count."""
        self.floor_us = MIN_US
        self._lock = threading.Lock()
        for place in choices:
            engine.declare(
                f"r{place}",
                fields=("v",),
                functions=("count", "sum", "min", "max", "p95"),
                group_by=("k",),
                end_offset=None,
                **ROLLUPS[place],
            )

    # --- what can happen

    def drain(self, events: Sequence[tuple[int, str, Any]], shard: int = 0) -> None:
        """Store events: ``(time in microseconds, tag, value)``."""
        made = [event(at, {"k": tag} if tag else {}, {"v": v}) for at, tag, v in events]
        with self._lock:
            floor_us = self.floor_us
        self.engine.drain(self.backend, made, shard)
        with self._lock:
            self.kept += [each for each in made if each.time_ns // 1_000 >= floor_us]

    def refresh(self, name: str, start_us: int | None, end_us: int) -> None:
        """Refresh a window; a window without a whole bucket is none."""
        start = None if start_us is None else datetime_of(start_us)
        rollup = self.backend.rollups()[name]
        finest = grid_of(rollup.widths[0], rollup.zone_name)
        whole = finest.whole(Range(MIN_US if start_us is None else start_us, end_us))
        if whole.low < whole.high:
            self.backend.refresh_rollup(name, start, datetime_of(end_us))

    def refresh_due(self) -> None:
        """Do what a scheduler does, whatever was done last."""
        self.engine.rows("Job").all().delete()
        self.backend.refresh_due()

    def erase(self, low_us: int, high_us: int) -> None:
        """Remove events above the floor, as a redaction does."""
        low_us = max(low_us, self.floor_us)
        chosen = [e for e in self.kept if low_us <= e.time_ns // 1_000 < high_us]
        if not chosen:
            return
        with self.transaction():
            self._delete(low_us, high_us)
            times = [each.time_ns // 1_000 for each in chosen]
            invalidate_times(self.engine.alias, "m", times)
        gone = {each.id for each in chosen}
        self.kept = [each for each in self.kept if each.id not in gone]

    def retain(self, before_us: int) -> None:
        """Drop rows, as far as rollups let retention go."""
        with private_connection(self.engine.alias):
            floor = raise_floor(self.engine.alias, ["m"], before_us)
        with self._lock:
            self.floor_us = max(self.floor_us, floor.before_us)
        with self.transaction():
            self._delete(None, floor.before_us)

    def redeclare(self, name: str, widths: tuple[str, ...]) -> None:
        """Change a declaration; the next refresh sees it."""
        known = self.backend.rollups()[name]
        self.engine.undeclare(name)
        self.engine.declare(
            name,
            fields=known.fields,
            functions=known.functions,
            group_by=known.group_by,
            widths=widths,
            end_offset=None,
            time_zone=known.zone_name,
        )

    # --- how it happens

    def run(self, step: Step) -> None:
        """Do a step: with a death in it, or with another one in between."""
        with armed(self._hook(step)):
            try:
                getattr(self, step.name)(*step.arguments)
            except faults.InjectedFault:
                assert step.fault, "nobody asked for it"

    def settle(self) -> None:
        """Refresh everything that has passed."""
        for name in self.backend.rollups():
            self.refresh(name, None, END_US)

    def _hook(self, step: Step) -> Callable[[str], None]:
        passes = 0

        def act(point: str) -> None:
            nonlocal passes
            wanted = step.between[0] if step.between else step.fault
            if point != wanted:
                return
            passes += 1
            if passes != step.after + 1:
                return
            if step.between is None:
                raise faults.InjectedFault(point)
            other = step.between[1]
            elsewhere(self.engine.alias, lambda: getattr(self, other.name)(*other.arguments))

        return act

    def _delete(self, low_us: int | None, high_us: int) -> None:
        rows = self.engine.rows("Event").filter(time__lt=datetime_of(high_us))
        if low_us is not None:
            rows = rows.filter(time__gte=datetime_of(low_us))
        rows._raw_delete(self.engine.alias)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction on our own connection."""
        from django.db import transaction

        using = self.engine.alias
        with private_connection(using), transaction.atomic(using=using):
            yield

    # --- what must be so

    def check(self) -> int:
        """Compare every bucket that counts; return how many there were."""
        compared = 0
        with private_connection(self.engine.alias):
            threshold_us, source_id = self._source()
            for row in self.engine.rows("RollupLevel"):
                rollup = self._rollup(row)
                owners = log.owners_of_level(row.id, source_id)
                wrong = log.ranges_of(self.engine.alias, owners)
                assert common(wrong, [Range(threshold_us, MAX_US)]) == [
                    Range(threshold_us, MAX_US)
                ], f"{rollup.level_name(row.level)}: what no refresh has reached looks right"
                compared += self._check_level(row, rollup, wrong)
        return compared

    def check_complete(self) -> None:
        """Check that nothing waits that could have been computed."""
        with private_connection(self.engine.alias):
            _, source_id = self._source()
            for row in self.engine.rows("RollupLevel"):
                rollup = self._rollup(row)
                grid = grid_of(rollup.widths[row.level], rollup.zone_name)
                finest = grid_of(rollup.widths[0], rollup.zone_name)
                # The last coarse bucket may want a finer one that is not over yet.
                whole = grid.whole(Range(self.floor_us, finest.floor(END_US)))
                if row.level and self.floor_us > MIN_US:
                    continue  # what was not there before the floor never will be
                owners = log.owners_of_level(row.id, source_id)
                waiting = common(log.ranges_of(self.engine.alias, owners), [whole])
                assert not waiting, f"{rollup.level_name(row.level)} still waits for {waiting}"

    def _check_level(self, row: Any, rollup: Rollup, wrong: Sequence[Range]) -> int:
        width, zone = str(rollup.widths[row.level]), rollup.zone_name
        grid = grid_of(rollup.widths[row.level], zone)
        expected: dict[tuple[Any, str, str], list[Any]] = {}
        starts: dict[Any, int] = {}
        counted = 0
        for each in self.kept:
            at = each.time_ns // 1_000
            spot = Range(grid.floor(at), grid.after(grid.floor(at)))
            if common(wrong, [spot]):
                continue
            label = bucket_label(at, zone, width)
            starts[label] = min(at, starts.get(label, at))
            tag = group_text((each.tags.get("k"),))
            expected.setdefault((label, tag, ROWS), []).append(1)
            if each.fields["v"] is not None:
                expected.setdefault((label, tag, "v"), []).append(each.fields["v"])
        names = ("bucket_us", "group", "field", *COLUMNS)
        rows = self.engine.rows("RollupBucket").filter(level_id=row.id).values_list(*names)
        for bucket_us, group, field, *columns in rows:
            spot = Range(grid.floor(bucket_us), grid.after(grid.floor(bucket_us)))
            if common(wrong, [spot]):
                continue
            place = (bucket_label(bucket_us, zone, width), group, field)
            values = expected.pop(place, None)
            assert values is not None, f"{width} {zone}: {place} should not be there, or twice"
            assert bucket_us <= starts[place[0]], f"{place} starts after an event of it"
            compare(Partial.from_columns(columns), values, place)
            counted += 1
        assert not expected, f"{width} {zone}: missing, of {rollup.name}: {expected}"
        return counted

    def _source(self) -> tuple[int, int]:
        found = self.engine.rows("RollupSource").filter(source="m").first()
        return (MIN_US, 0) if found is None else (found.threshold_us, found.id)

    def _rollup(self, row: Any) -> Rollup:
        from tailrace.backends.rollups.declaration import from_text

        return from_text(row.rollup, row.declaration)


def bucket_label(time_us: int, zone: str, width: str) -> Any:
    """Return what names the bucket of a time: its wall clock cut off, and the offset if short."""
    local = datetime_of(time_us).astimezone(ZoneInfo(zone))
    wall = local.replace(tzinfo=None, fold=0, second=0, microsecond=0)
    day = wall.replace(hour=0, minute=0)
    if width == "1 minute":
        return wall, local.utcoffset()
    if width == "15 minutes":
        return wall.replace(minute=wall.minute // 15 * 15), local.utcoffset()
    if width == "1 hour":
        return wall.replace(minute=0), local.utcoffset()
    if width in ("2 hours", "6 hours"):
        hours = int(width[0])
        return wall.replace(minute=0, hour=wall.hour // hours * hours)
    if width == "1 day":
        return day
    if width == "1 week":
        return day - timedelta(days=day.weekday())
    if width == "1 month":
        return day.replace(day=1)
    assert width == "1 year"
    return day.replace(day=1, month=1)


def compare(found: Partial, values: Sequence[Any], place: Any) -> None:
    """Compare a partial with the values that it should be of."""
    assert found.count == len(values), f"{place}: counts {found.count}, there are {len(values)}"
    if place[2] == ROWS:
        return
    wholes = [each for each in values if type(each) is int]
    floats = [each for each in values if type(each) is float]
    assert (found.wholes, found.others) == (len(wholes), len(floats)), place
    assert found.whole_sum == sum(wholes), f"{place}: {found.whole_sum} is not {sum(wholes)}"
    if wholes:
        assert (found.whole_min, found.whole_max) == (min(wholes), max(wholes)), place
    if floats:
        assert (found.other_min, found.other_max) == (min(floats), max(floats)), place
        assert abs(float(found.other_sum) - sum(floats)) < 1e-9 * sum(map(abs, floats)) + 1e-12
    numbers = sorted([*wholes, *floats])
    assert found.sketch is not None
    assert found.sketch.count == len(numbers), f"{place}: the sketch has lost some"
    if numbers:
        low, high = found.sketch.percentile(0), found.sketch.percentile(100)
        for ours, right in ((low, numbers[0]), (high, numbers[-1])):
            assert abs((ours or 0.0) - right) <= 0.01 * abs(right), f"{place}: {ours} for {right}"


@contextmanager
def armed(act: Callable[[str], None]) -> Iterator[None]:
    """Have a function called at every fault point that this thread passes."""
    us = threading.get_ident()
    before = faults._armed, faults._act

    def only_here(point: str) -> None:
        if threading.get_ident() == us:
            act(point)

    faults._armed, faults._act = "everywhere", only_here
    try:
        yield
    finally:
        faults._armed, faults._act = before


_elsewhere = ThreadPoolExecutor(1, thread_name_prefix="elsewhere")


def elsewhere(alias: str, work: Callable[[], Any]) -> None:
    """Do something in another thread, on another connection, and wait for it."""
    _elsewhere.submit(work).result(timeout=60)


def close_elsewhere(alias: str) -> None:
    """Close that thread's connection."""
    _elsewhere.submit(close_private_connections, alias).result(timeout=60)


def times(centre: datetime, spread_us: Iterable[int]) -> list[int]:
    """Return times around one."""
    return [us_of(centre) + each for each in spread_us]


def patiently(work: Callable[[], Any], attempts: int = 30) -> None:
    """Do what beat does with a transient error: try again later."""
    for attempt in range(attempts):
        try:
            work()
            return
        except BackendError:
            if attempt + 1 == attempts:
                raise
