"""Deletes of readings. InfluxDB deletes by time, measurement and tags, and counts nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from tailrace.backends.reading.arguments import DEVICE_TAG
from tailrace.backends.reading.query import ReadingQuery

from . import flux, stored
from .aggregates import Question, compute
from .readings import tag_values
from .selection import Ask, Selection

_NS_A_SECOND = 1_000_000_000

FIRST_OF_INFLUX_1_NS, END_OF_INFLUX_1_NS = flux.NS_FIRST + _NS_A_SECOND, flux.NS_END - 1
"""What is farther away is no time to a delete of InfluxDB 1."""

DeletePoints = Callable[[int, int, str], None]
"""Deletes from one time to another, which does not belong to them, by a predicate."""


def delete(ask: Ask, delete_points: DeletePoints, bucket: str, asked: ReadingQuery) -> int:
    """Delete readings, and return how many there were.

    Args:
        ask: Sends a query.
        delete_points: Sends a delete.
        bucket: Where the readings are.
        asked: Which; of its arguments, model, device and window.
    """
    measurement = asked.schema.measurement
    tags = {} if asked.device_id is None else {DEVICE_TAG: tag_values([asked.device_id])}
    chosen = Selection.make(bucket, measurement, asked.window, tags)
    if chosen is None:
        return 0
    question = Question("count", None, (stored.ID,), (), None)
    count = sum(found.result for found in compute(ask, chosen, question))
    if count:
        conditions = {"_measurement": stored.measurement(measurement)}
        for name, (device,) in tags.items():
            conditions[stored.tag_key(name)] = stored.tag_value(str(device))
        delete_points(chosen.start_ns, chosen.end_ns, predicate(conditions))
    return int(count)


def predicate(conditions: dict[str, str]) -> str:
    """Return the predicate of a delete: texts that names must be equal to."""
    return " AND ".join(f"{_quoted(key)}={_quoted(value)}" for key, value in conditions.items())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def rfc3339(time_ns: int) -> str:
    """Return a time as text, with all of its nine digits."""
    second, rest = divmod(time_ns, _NS_A_SECOND)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
