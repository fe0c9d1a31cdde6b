"""The parts of a downsampling task's text: when it computes, and what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC

from django.apps import apps

from tailrace.backends.reading.columns import ReadingSchema
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.event import DEVICE_TAG
from tailrace.pipeline.interval import ORIGIN, Interval
from tailrace.pipeline.rollup import Rollup

from .reading import flux, stored
from .reading.flux import Flux
from .reading.selection import to_ns

_NS_A_SECOND = 1_000_000_000
DAY_SECONDS = 86_400
_ORIGIN_NS = to_ns(ORIGIN.replace(tzinfo=UTC))
_LOOK_BACK_BUCKETS = 3
_MONTHS = {1: "1mo", 12: "1y"}

IMPORTS = Flux('import "date"\nimport "types"')
NUMBERS_ONLY = flux.where(Flux("types.isNumeric(v: r._value)"))


def check(rollup: Rollup, width: Interval) -> None:
    """Refuse what Flux cannot do.

    Raises:
        NotSupportedByBackend: says what, and what can be.
    """
    if rollup.zone_name != "UTC":
        raise NotSupportedByBackend(
            f"rollup {rollup.name!r} has TIME_ZONE {rollup.zone_name!r}; a task of InfluxDB has "
            "buckets of UTC. Leave it out: aggregate() has every zone, from the events"
        )
    if width.months and width.months not in _MONTHS:
        raise NotSupportedByBackend(
            f"rollup {rollup.name!r} has WIDTHS with {width}; a task of InfluxDB can have "
            "'1 month', '1 year', and every width of seconds to weeks"
        )


def source_of(rollup: Rollup) -> tuple[str, list[str]]:
    """Return measurement and tags as they are stored."""
    if not rollup.is_of_model:
        return stored.measurement(rollup.source), [stored.tag_key(n) for n in rollup.group_by]
    schema = ReadingSchema(apps.get_model(rollup.source))
    others = [name for name in rollup.group_by if schema.column(name) is not schema.device]
    if others:
        raise NotSupportedByBackend(
            f"rollup {rollup.name!r} groups by {others[0]!r}, which is a field in InfluxDB; a task "
            "can group readings by 'device' only"
        )
    return stored.measurement(schema.measurement), [DEVICE_TAG] if rollup.group_by else []


def moving_window(rollup: Rollup, width: Interval) -> Iterator[Flux]:
    """Yield from when to when a task computes: whole buckets."""
    end_seconds = seconds_of(rollup.end_offset)
    back_seconds = seconds_of(rollup.start_offset) or max(
        _LOOK_BACK_BUCKETS * seconds_of(width), DAY_SECONDS
    )
    yield _bucket_start("start", end_seconds + back_seconds, width)
    yield _bucket_start("stop", end_seconds, width)


def _bucket_start(name: str, ago_seconds: int, width: Interval) -> Flux:
    ago = flux.whole(ago_seconds * _NS_A_SECOND)
    if width.months:
        unit = _MONTHS[width.months]
        return Flux(f"{name} = date.truncate(t: time(v: int(v: now()) - {ago.text}), unit: {unit})")
    width_ns = flux.whole(width.seconds * _NS_A_SECOND)
    origin = flux.whole(_ORIGIN_NS)
    since = f"(int(v: now()) - {ago.text} - {origin.text})"
    return Flux(f"{name} = time(v: {since} / {width_ns.text} * {width_ns.text} + {origin.text})")


def aggregate_window(width: Interval, function: str) -> Flux:
    """Return the step that computes a function by bucket; empty ones are left out."""
    if width.months:
        every, offset = _MONTHS[width.months], "0s"
    else:
        every = flux.seconds(width.seconds).text
        offset = flux.seconds(_ORIGIN_NS // _NS_A_SECOND % width.seconds).text
    called = flux.aggregate(function).text.removesuffix("()")
    return Flux(
        f"aggregateWindow(every: {every}, offset: {offset}, fn: {called}, createEmpty: false, "
        'timeSrc: "_start")'
    )


def renamed(own_key: str | None, part: str) -> Flux:
    """Return the step that names a point's field: ``duration_ms.count``, ``rows.count``."""
    if own_key is None:
        return Flux(f'set(key: "_field", value: {flux.text(f"rows.{part}").text})')
    ending = flux.text(f".{part}").text
    return Flux(f"map(fn: (r) => ({{r with _field: r._field + {ending}}}))")


def seconds_of(interval: Interval | None) -> int:
    """Return an interval's length, at least; 0 for none."""
    if interval is None:
        return 0
    return interval.seconds or interval.months * 31 * DAY_SECONDS
