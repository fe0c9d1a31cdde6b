"""What the answers must be, computed the slow and obvious way; shares no code with a backend."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction
from functools import lru_cache
from typing import Any

from tailrace.pipeline.event import Event

_MINUTE = timedelta(minutes=1)
_HALF_HOUR = timedelta(minutes=30)
_FARTHEST_OFFSET = timedelta(hours=26)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Question:
    """The arguments of an aggregate."""

    field: str | None
    function: str
    start: datetime | None = None
    end: datetime | None = None
    interval: str | None = None
    group_by: tuple[str, ...] = ()
    tags: dict[str, Any] = dataclass_field(default_factory=dict)
    zone: tzinfo = UTC
    fill: Any = None

    def ask(self, backend: Any, measurement: str) -> Any:
        """Ask a backend."""
        return backend.aggregate(
            measurement,
            self.field,
            self.function,
            start=self.start,
            end=self.end,
            interval=self.interval,
            group_by=list(self.group_by) or None,
            tags=self.tags or None,
            tz=self.zone,
            fill=self.fill,
        )

    def is_about(self, event: Event) -> bool:
        """Say whether an event is in the window and passes the tags."""
        if self.start is not None and event.time < self.start:
            return False
        if self.end is not None and event.time >= self.end:
            return False
        for name, wanted in self.tags.items():
            if event.tags.get(name) not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True


def wall_label(moment: datetime, zone: tzinfo, interval: str) -> tuple[datetime, timedelta | None]:
    """Return what names a bucket: the wall clock cut off, and the offset for an hour or less."""
    local = moment.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0, second=0, microsecond=0)
    if interval == "5 minutes":
        return wall.replace(minute=wall.minute // 5 * 5), local.utcoffset()
    if interval == "hour":
        return wall.replace(minute=0), local.utcoffset()
    if interval == "6 hours":
        return wall.replace(minute=0, hour=wall.hour // 6 * 6), None
    day = wall.replace(hour=0, minute=0)
    if interval == "day":
        return day, None
    if interval == "week":
        return day - timedelta(days=day.weekday()), None
    if interval == "month":
        return day.replace(day=1), None
    assert interval == "year"
    return day.replace(day=1, month=1), None


@lru_cache(maxsize=10_000)
def first_minute(label: tuple[datetime, timedelta | None], zone: tzinfo, interval: str) -> datetime:
    """Return the first minute (UTC) that has this label; clocks change at full minutes."""
    moment = label[0].replace(tzinfo=UTC) - _FARTHEST_OFFSET
    while wall_label(moment, zone, interval) != label:
        moment += _MINUTE
    return moment


def expected(events: Sequence[Event], question: Question) -> Any:
    """Return the answer."""
    values: dict[tuple[Any, ...], list[Any]] = {}
    for event in filter(question.is_about, events):
        value = 1 if question.field is None else event.fields.get(question.field)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or (question.function != "count" and not is_number):
            continue
        bucket = None
        if question.interval is not None:
            label = wall_label(event.time, question.zone, question.interval)
            bucket = first_minute(label, question.zone, question.interval)
        group = tuple(event.tags.get(name) for name in question.group_by)
        values.setdefault((bucket, group), []).append(value)
    results = {place: compute(question.function, listed) for place, listed in values.items()}
    if question.interval is None and not question.group_by:
        return {"result": results.get((None, ()), 0 if question.function == "count" else None)}
    if question.fill is not None:
        results = _filled(question, results)
    return [
        ({} if question.interval is None else {"bucket": bucket.astimezone(question.zone)})
        | {"result": result}
        | dict(zip(question.group_by, group, strict=True))
        for (bucket, group), result in sorted(results.items(), key=_place)
    ]


def compute(function: str, values: list[Any]) -> Any:
    """Compute a function of numbers, exactly, and round once at the end."""
    if function == "count":
        return len(values)
    are_whole = all(isinstance(each, int) for each in values)
    exact = sorted(Fraction(each) for each in values)
    if function == "avg":
        return float(sum(exact) / len(exact))
    if function.startswith("p"):
        place = Fraction(int(function[1:]), 100) * (len(exact) - 1)
        low, high = exact[math.floor(place)], exact[math.ceil(place)]
        return float(low + (high - low) * (place - math.floor(place)))
    found = {"min": exact[0], "max": exact[-1], "sum": sum(exact)}[function]
    return int(found) if are_whole else float(found)


def _filled(question: Question, results: dict[Any, Any]) -> dict[Any, Any]:
    groups = {group for _, group in results} if question.group_by else {()}
    rows: dict[Any, Any] = {}
    for group in groups:
        previous = None
        for bucket in sorted(set(_buckets(question))):
            empty = {"null": None, 0: 0, "previous": previous}[question.fill]
            previous = rows[bucket, group] = results.get((bucket, group), empty)
    return rows


def _buckets(question: Question) -> Iterator[datetime]:
    assert question.start is not None
    assert question.end is not None
    assert question.interval is not None
    step = _HALF_HOUR if question.interval != "5 minutes" else 5 * _MINUTE
    moment = question.start
    aligned = moment.replace(minute=0, second=0, microsecond=0)
    while moment < question.end:
        label = wall_label(moment, question.zone, question.interval)
        yield first_minute(label, question.zone, question.interval)
        while aligned <= moment:
            aligned += step
        moment = aligned


def _place(item: tuple[tuple[Any, tuple[Any, ...]], Any]) -> Any:
    (bucket, group), _ = item
    return str(bucket), [(each is not None, each) for each in group]


def assert_same(found: Any, right: Any, magnitude: float, context: object) -> None:
    """Compare answers; floats may differ by what adding in another order may change.

    Args:
        found: The backend's answer.
        right: The right one.
        magnitude: The sum of the absolute values of the numbers.
        context: Shown when they differ.
    """
    message = f"{context}:\nanswered {found}\nright is {right}"
    if isinstance(right, dict):
        found, right = [found], [right]
    assert [_places(row) for row in found] == [_places(row) for row in right], message
    for ours, theirs in zip(found, right, strict=True):
        one, other = ours["result"], theirs["result"]
        assert type(one) is type(other), message
        if isinstance(other, float):
            assert math.isclose(one, other, rel_tol=1e-12, abs_tol=magnitude * 1e-12), message
        else:
            assert one == other, message


def _places(row: dict[str, Any]) -> dict[str, Any]:
    place = {name: value for name, value in row.items() if name != "result"}
    if "bucket" in place:  # with its offset: datetimes of one zone compare by wall clock
        place["bucket"] = place["bucket"].isoformat()
    return place
