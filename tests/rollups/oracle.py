"""A world that things happen in, and what rollups must hold there.

After whatever has happened, each bucket that is not in its level's logs must hold what the events
of that bucket come to. Events count that were stored while their time was above the floor; those
that retention has dropped since still do.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rollups.conftest import Engine, event
from rollups.expected import bucket_label, compare
from rollups.scene import END_US, ROLLUPS, Step
from rollups.sessions import Sessions, acting, armed, patiently
from tailrace.backends.private_connection import private_connection
from tailrace.backends.retention.floor import prepare, raise_floor
from tailrace.backends.rollups import log
from tailrace.backends.rollups.grid import grid_of
from tailrace.backends.rollups.groups import group_text
from tailrace.backends.rollups.invalidation import invalidate_times
from tailrace.backends.rollups.partial import COLUMNS, ROWS, Partial
from tailrace.backends.rollups.ranges import (
    MAX_US,
    MIN_US,
    Range,
    common,
    datetime_of,
    merged,
)
from tailrace.pipeline import faults
from tailrace.pipeline.event import Event
from tailrace.pipeline.rollup import Rollup


class World:
    """A database with a rollup or two, and all events that ever came."""

    def __init__(self, engine: Engine, choices: Sequence[int], sessions: Sessions) -> None:
        engine.empty()
        self.engine = engine
        self.sessions = sessions
        self.backend = engine.backend()
        self.kept: list[Event] = []
        """Events that count."""
        self.unsure: list[Event] = []
        """Events that retention overtook on their way in or out: they count, or not."""
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
        floor_us = self.floor_us()
        self.engine.drain(self.backend, made, shard)
        self._settle(made, floor_us, is_in=True)

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
        with private_connection(self.engine.alias):
            self.engine.rows("Job").update(owner="", expires_us=0, runs="[]")
        self.backend.refresh_due()

    def erase(self, low_us: int, high_us: int) -> None:
        """Remove events above the floor, as a redaction does."""
        floor_us = self.floor_us()
        low_us = max(low_us, floor_us)
        with self._lock:
            chosen = [e for e in self.kept if low_us <= e.time_ns // 1_000 < high_us]
        if not chosen:
            return
        with self.transaction():
            rows = self.engine.rows("Event").filter(uid__in=[each.uuid for each in chosen])
            rows._raw_delete(self.engine.alias)
            times = [each.time_ns // 1_000 for each in chosen]
            invalidate_times(self.engine.alias, "m", times)
        gone = {each.id for each in chosen}
        with self._lock:
            self.kept[:] = [each for each in self.kept if each.id not in gone]
        self._settle(chosen, floor_us, is_in=False)

    def retain(self, before_us: int) -> None:
        """Drop rows, as far as rollups let retention go."""
        with private_connection(self.engine.alias):
            # What was dropped before it was declared, no rollup can know.
            prepare(self.backend)
            floor = raise_floor(self.engine.alias, ["m"], before_us)
        with self.transaction():
            rows = self.engine.rows("Event").filter(time__lt=datetime_of(floor.before_us))
            rows._raw_delete(self.engine.alias)

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
        before = acting()

        def act(point: str) -> None:
            nonlocal passes
            if before is not None:
                before(point)
            wanted = step.between[0] if step.between else step.fault
            if point != wanted:
                return
            passes += 1
            if passes != step.after + 1:
                return
            if step.between is None:
                raise faults.InjectedFault(point)
            other = step.between[1]
            self.sessions.do(lambda: getattr(self, other.name)(*other.arguments))

        return act

    def run_all(self, steps: Sequence[Step], pauses: random.Random) -> None:
        """Do steps while others do theirs, with a pause here and there."""

        def pause(point: str) -> None:
            if pauses.random() < 0.3:
                time.sleep(pauses.random() * 0.01)

        for step in steps:
            with armed(pause):
                patiently(self.engine.alias, functools.partial(self.run, step))

    def floor_us(self) -> int:
        """Return how far retention has gone."""
        with private_connection(self.engine.alias):
            found = self.engine.rows("RollupSource").filter(source="m").first()
            return MIN_US if found is None else int(found.floor_us)

    def _settle(self, events: Sequence[Event], floor_us: int, *, is_in: bool) -> None:
        """Have what is in, and above the floor, count; know what the floor may have overtaken."""
        now_us = self.floor_us()
        with self._lock:
            for each in events:
                at = each.time_ns // 1_000
                if at >= now_us:
                    self.kept += [each] * is_in
                elif at >= floor_us:
                    self.unsure.append(each)

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
            floor_us = self.floor_us()
            for row in self.engine.rows("RollupLevel"):
                rollup = self._rollup(row)
                grid = grid_of(rollup.widths[row.level], rollup.zone_name)
                finest = grid_of(rollup.widths[0], rollup.zone_name)
                # The last coarse bucket may want a finer one that is not over yet.
                whole = grid.whole(Range(floor_us, finest.floor(END_US)))
                if row.level and floor_us > MIN_US:
                    continue  # what was not there before the floor never will be
                owners = log.owners_of_level(row.id, source_id)
                waiting = common(log.ranges_of(self.engine.alias, owners), [whole])
                assert not waiting, f"{rollup.level_name(row.level)} still waits for {waiting}"

    def _check_level(self, row: Any, rollup: Rollup, wrong: Sequence[Range]) -> int:
        width, zone = str(rollup.widths[row.level]), rollup.zone_name
        grid = grid_of(rollup.widths[row.level], zone)
        wrong = merged([*wrong, *grid.widened(_instant(each) for each in self.unsure)])
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


def _instant(each: Event) -> Range:
    at = each.time_ns // 1_000
    return Range(at, at + 1)
