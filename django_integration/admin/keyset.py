"""Pages of a long table by key: what comes after this row, instead of page 20,000.

A page is read from one or more lanes, each a queryset whose order an index gives, and merged.
So a list of all measurements in the order of time needs no index on time alone: each
measurement is a lane, on the index of measurement and time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet

SCAN_MAX_ROWS = 20_000
"""So many rows are looked at for one page of a filter that no index serves."""
DISTINCT_MAX = 500
_SCAN_CHUNK_ROWS = 1_000
_INT_MAX = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Key = tuple[Any, ...]


class BadCursor(ValueError):
    """This is no cursor of this list."""


class Order(NamedTuple):
    """A list's order: the newest first, by a column and then the id, or by the id alone."""

    column: str = ""
    is_time: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of a key."""
        return (self.column, "id") if self.column else ("id",)

    def encode(self, key: Key) -> str:
        """Return a key as it stands in a link."""
        if not self.column:
            return str(key[0])
        value = (key[0] - _EPOCH) // _MICROSECOND if self.is_time else key[0]
        return f"{value}-{key[1]}"

    def decode(self, text: str) -> Key:
        """Undo :meth:`encode`.

        Raises:
            BadCursor: it was never encoded.
        """
        value, dash, row_id = text.rpartition("-")
        if bool(dash) != bool(self.column) or len(text) > 50:
            raise BadCursor(text[:50])
        try:
            numbers = [int(row_id)] if not dash else [int(value), int(row_id)]
            if max(map(abs, numbers)) > _INT_MAX:
                raise BadCursor(text)
            if not dash:
                return (numbers[0],)
            first = _EPOCH + numbers[0] * _MICROSECOND if self.is_time else numbers[0]
        except (ValueError, OverflowError) as error:
            raise BadCursor(text) from error
        return first, numbers[1]

    def beyond(self, rows: QuerySet[Any], key: Key, is_older: bool) -> QuerySet[Any]:
        """Return the rows on one side of a key.

        The first condition bounds the index; the second one sorts out rows with equal values.
        """
        side = "lt" if is_older else "gt"
        if not self.column:
            return rows.filter(**{f"id__{side}": key[0]})
        return rows.filter(
            Q(**{f"{self.column}__{side}": key[0]}) | Q(**{f"id__{side}": key[1]}),
            **{f"{self.column}__{side}e": key[0]},
        )

    def sort(self, rows: QuerySet[Any], is_older: bool) -> QuerySet[Any]:
        """Sort away from where the page starts."""
        return rows.order_by(*(f"-{name}" if is_older else name for name in self.names))


class Page(NamedTuple):
    """The keys of a page's rows, newest first, and the links beside it."""

    ids: list[int]
    older: str | None
    newer: str | None
    scanned_back_to: Key | None = None
    """Where the search stopped because it had looked at enough rows."""


class Plan(NamedTuple):
    """How a list is read."""

    lanes: Sequence[QuerySet[Any]]
    order: Order
    accepts: Callable[[tuple[Any, ...]], bool] | None = None
    """A filter that no index serves, over the values of ``columns``."""
    columns: tuple[str, ...] = ()


def read_page(plan: Plan, size: int, before: str | None = None, after: str | None = None) -> Page:
    """Read the page on one side of a cursor; the newest page without one.

    Args:
        plan: The list.
        size: Rows on a page.
        before: Cursor; the page has what is older.
        after: Cursor; the page has what is newer.

    Raises:
        BadCursor: a cursor is none of this list's.
    """
    if after is not None:
        page = _read(plan, size, plan.order.decode(after), is_older=False)
        if page.newer is not None:
            return page
        before = None  # the newest page, and a full one
    return _read(plan, size, plan.order.decode(before) if before else None, is_older=True)


def _read(plan: Plan, size: int, start: Key | None, is_older: bool) -> Page:
    order = plan.order
    width = len(order.names)
    kept: list[Key] = []
    stopped: Key | None = None
    for scanned, row in enumerate(_merged(plan, size, start, is_older), 1):
        key = tuple(row[:width])
        if plan.accepts is None or plan.accepts(row[width:]):
            kept.append(key)
            if len(kept) > size:
                break
        if plan.accepts is not None and scanned >= SCAN_MAX_ROWS:
            stopped = key
            break
    onward = stopped
    if len(kept) > size:
        kept, onward = kept[:size], kept[size - 1]
    # Back is where we came from; the newest page has nothing behind it.
    back = kept[0] if kept and start is not None else None
    far, near = (order.encode(key) if key else None for key in (onward, back))
    ids = [key[-1] for key in kept]
    if is_older:
        return Page(ids, far, near, stopped)
    return Page(ids[::-1], near, far, stopped)


def _merged(plan: Plan, size: int, start: Key | None, is_older: bool) -> Iterator[tuple[Any, ...]]:
    width = len(plan.order.names)
    chunk = size + 1 if plan.accepts is None else _SCAN_CHUNK_ROWS
    walks = [_walk(plan, lane, start, is_older, chunk) for lane in plan.lanes]
    return heapq.merge(*walks, key=lambda row: row[:width], reverse=is_older)


def _walk(
    plan: Plan, lane: QuerySet[Any], start: Key | None, is_older: bool, chunk: int
) -> Iterator[tuple[Any, ...]]:
    order = plan.order
    while True:
        rows = lane if start is None else order.beyond(lane, start, is_older)
        names = (*order.names, *plan.columns)
        found = list(order.sort(rows, is_older).values_list(*names)[:chunk])
        yield from found
        if len(found) < chunk:
            return
        start = tuple(found[-1][: len(order.names)])


def distinct_values(rows: QuerySet[Any], column: str, limit: int = DISTINCT_MAX) -> list[str]:
    """Return the values of a column that leads an index, in order, by one look-up each.

    ``SELECT DISTINCT`` reads the whole index.
    """
    values: list[str] = []
    ordered = rows.order_by(column).values_list(column, flat=True)
    while len(values) < limit:
        following = ordered.filter(**{f"{column}__gt": values[-1]}) if values else ordered
        found = list(following[:1])
        if not found:
            break
        values += found
    return values
