"""One slice of a refresh: some buckets of one level, computed anew.

What to do is read, and computed, without a lock: the log first, the rows afterwards. Whoever
changes a row later has noted so in a row of the log that we have not seen. One short transaction
then puts the new buckets in the place of the old ones and takes from the log the very rows that
were read; where one of them is gone, or a floor has moved, somebody else was faster, and the slice
is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connections, transaction

from tailrace.backends.reading.query import Window
from tailrace.pipeline.faults import fault
from tailrace.pipeline.rollup import Rollup

from . import log
from .changes import objects
from .grid import Grid, grid_of
from .groups import group_text
from .partial import COLUMNS, ROWS, Partial
from .ranges import MAX_US, Range, common, datetime_of, merged, us_of, without
from .statement import PartialQuery, partials, source_table

_ROWS_A_STATEMENT = 1_000
_FEW_BUCKETS = 16
"""Ranges up to this long are computed without looking first what there is in them."""
_STEPS = 8
"""Stretches of buckets with something in them that a slice looks for, at least."""
_RANGES_MAX = 200
"""Of one slice: each is a statement for each field."""

Place = tuple[int, str, str]
"""Bucket, group and field."""


@dataclass(frozen=True)
class Level:
    """One level of a rollup, and what it is made of."""

    using: str
    id: int
    number: int
    rollup: Rollup
    source: str
    source_id: int
    below: Level | None

    @property
    def grid(self) -> Grid:
        """Its buckets."""
        return grid_of(self.rollup.widths[self.number], self.rollup.zone_name)

    @property
    def name(self) -> str:
        """What it is called: ``requests:1 hour``."""
        return self.rollup.level_name(self.number)

    def floor_us(self) -> int:
        """Return the first time whose buckets can be computed: all that they need is there."""
        levels = objects(self.using, "RollupLevel")
        ids = [self.id] if self.below is None else [self.id, self.below.id]
        floors = list(levels.filter(id__in=ids).values_list("floor_us", flat=True))
        if self.below is None:
            sources = objects(self.using, "RollupSource").filter(id=self.source_id)
            floors += sources.values_list("floor_us", flat=True)
        return max(floors, default=MAX_US)


class Plan(NamedTuple):
    """What a slice does."""

    ranges: list[Range]
    """Whole buckets, ascending."""
    entries: list[log.Entry]
    """What it takes from the log."""
    remainders: dict[str, list[Range]]
    """What it puts back, by owner."""


class Computed(NamedTuple):
    """What a slice has found."""

    partials: dict[Place, Partial]
    rows_read: int
    """Rows of the source, or buckets of the level below."""
    not_numbers: int
    """Values of the rollup's fields that are no numbers."""


def plan(level: Level, window: Range, buckets: int, *, has_unwanted: bool) -> Plan | None:
    """Choose what to compute next: the newest of what is invalid.

    Args:
        level: Of which level.
        window: Buckets that lie in it as a whole.
        buckets: About how many.
        has_unwanted: Whether what a rollup without data left out counts, too.

    Returns:
        ``None`` where there is nothing to do, or the level below has to come first.
    """
    owners = [log.level_owner(level.id)]
    if has_unwanted:
        owners.append(log.unwanted_owner(level.id))
    entries = log.entries(level.using, owners)
    whole = level.grid.whole(Range(max(window.low, level.floor_us()), window.high))
    invalid = common(level.grid.widened(each.range for each in entries), [whole])
    if level.below is not None and invalid:
        below = (log.level_owner(level.below.id), log.unwanted_owner(level.below.id))
        waiting = log.ranges_of(level.using, below)
        invalid = without(invalid, level.grid.widened(waiting))
    ranges = _newest(level, invalid, buckets)
    if not ranges:
        return None
    concerned = [each for each in entries if common([each.range], ranges)]
    remainders = {
        owner: without(merged(e.range for e in concerned if e.owner == owner), ranges)
        for owner in {each.owner for each in concerned}
    }
    return Plan(ranges, concerned, remainders)


def compute(level: Level, ranges: Sequence[Range]) -> Computed:
    """Compute the buckets of some ranges.

    Raises:
        ValueError: the source has no such field any more; says which.
    """
    if level.below is None:
        return _from_rows(level, ranges)
    return _from_below(level, level.below, ranges)


def write(level: Level, chosen: Plan, computed: Computed) -> bool:
    """Put computed buckets in the place of the old ones; return whether that could be done."""
    using = level.using
    with transaction.atomic(using=using, durable=True):
        if not _is_as_read(level, chosen):
            transaction.set_rollback(True, using=using)
            return False
        for low, high in chosen.ranges:
            old = objects(using, "RollupBucket").filter(level_id=level.id)
            old.filter(bucket_us__gte=low, bucket_us__lt=high)._raw_delete(using)
        fault("refresh_deleted")
        rows = objects(using, "RollupBucket")
        made = (
            rows.model(
                level_id=level.id, bucket_us=bucket, group=group, field=field, **found.to_columns()
            )
            for (bucket, group, field), found in computed.partials.items()
        )
        rows.bulk_create(made, batch_size=_ROWS_A_STATEMENT)
        for owner, ranges in chosen.remainders.items():
            log.add(using, owner, ranges)
        fault("refresh_before_commit")
    fault("refresh_committed")
    return True


def _is_as_read(level: Level, chosen: Plan) -> bool:
    """Return whether nobody has come between; takes the entries from the log."""
    locked = objects(level.using, "RollupLevel").select_for_update().filter(id=level.id)
    fingerprints = list(locked.values_list("fingerprint", flat=True))
    if fingerprints != [level.rollup.fingerprint(level.number)]:
        return False
    if level.floor_us() > chosen.ranges[0].low:
        return False
    ids = [each.id for each in chosen.entries]
    return log.remove(level.using, ids) == len(ids)


def _newest(level: Level, invalid: Sequence[Range], buckets: int) -> list[Range]:
    """Return the newest ranges, up to a number of buckets; where there are none, all at once."""
    grid = level.grid
    width_us = max(grid.after(grid.floor(0)) - grid.floor(0), 1)
    step = max(buckets // _STEPS, _FEW_BUCKETS)
    found: list[Range] = []
    for low, high in reversed(invalid):
        while low < high and buckets > 0 and len(found) < _RANGES_MAX:
            top: int | None = high
            if high - low > _FEW_BUCKETS * width_us:
                top = _content_end(level, Range(low, high))
            first = low if top is None else grid.back(top, low, step)
            buckets -= 0 if top is None else (top - first) // width_us + 1
            found.append(Range(first, high))
            high = first
    return merged(found)


def _content_end(level: Level, within: Range) -> int | None:
    """Return the end of the last bucket in a range that has, or had, something in it."""
    last = [_last_bucket(level, within)]
    if level.below is None:
        table = source_table(connections[level.using], level.source)
        newest = table.extremes(Window(datetime_of(within.low), datetime_of(within.high)))[1]
        last.append(None if newest is None else us_of(newest))
    else:
        last.append(_last_bucket(level.below, within))
    known = [each for each in last if each is not None]
    return min(level.grid.ceil(max(known) + 1), within.high) if known else None


def _last_bucket(level: Level, within: Range) -> int | None:
    rows = objects(level.using, "RollupBucket").filter(level_id=level.id)
    chosen = rows.filter(bucket_us__gte=within.low, bucket_us__lt=within.high)
    found = chosen.order_by("-bucket_us").values_list("bucket_us", flat=True).first()
    return None if found is None else int(found)


def _from_rows(level: Level, ranges: Sequence[Range]) -> Computed:
    found: dict[Place, Partial] = {}
    rows_read = not_numbers = 0
    table = source_table(connections[level.using], level.source)
    for cell in partials(table, PartialQuery.of_rollup(level.rollup), ranges):
        assert cell.bucket_us is not None, "a level has buckets"
        if cell.field == ROWS:
            rows_read += cell.partial.count
        else:
            not_numbers += cell.partial.count - cell.partial.wholes - cell.partial.others
        _merge(found, (cell.bucket_us, group_text(cell.group), cell.field), cell.partial)
    return Computed(found, rows_read, not_numbers)


def _from_below(level: Level, below: Level, ranges: Sequence[Range]) -> Computed:
    found: dict[Place, Partial] = {}
    rows_read = 0
    names = ("bucket_us", "group", "field", *COLUMNS)
    for low, high in ranges:
        rows = objects(level.using, "RollupBucket").filter(level_id=below.id)
        rows = rows.filter(bucket_us__gte=low, bucket_us__lt=high).values_list(*names)
        chunk = list(rows)
        starts = level.grid.bucket_of(row[0] for row in chunk)
        for bucket, group, field, *columns in chunk:
            _merge(found, (starts[bucket], group, field), Partial.from_columns(columns))
        rows_read += len(chunk)
    return Computed(found, rows_read, 0)


def _merge(found: dict[Place, Partial], place: Place, partial: Partial) -> None:
    if place in found:
        found[place].merge(partial)
    else:
        found[place] = partial
