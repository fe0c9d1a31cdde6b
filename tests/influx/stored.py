"""What is in a bucket, without any code of the backend: by the client, or from the fake."""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from influx.servers import InfluxAddress
from influx.strict_line_protocol import Point
from influxdb_client import InfluxDBClient

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HIDDEN = ("tailrace.slot", "tailrace.burst")
_TYPED = re.compile(r"tailrace\.(int|float|str|bool|none)\.(.+)", re.DOTALL)


def events_of(points: Iterable[Point]) -> list[dict[str, Any]]:
    """Return points in the form of ``Event.as_dict()``."""
    return [_event(p.measurement, p.tags, p.fields, p.time_ns) for p in points]


def events_in(address: InfluxAddress, bucket: str) -> list[dict[str, Any]]:
    """Return all events of a real server's bucket."""
    found: dict[Any, dict[str, Any]] = defaultdict(dict)
    query = (
        f'from(bucket: "{bucket}") |> range(start: 1677-09-21T00:12:43.145224194Z, '
        "stop: 2262-04-11T23:47:16.854775806Z) "
        "|> map(fn: (r) => ({r with ns: string(v: int(v: r._time))}))"
    )
    with InfluxDBClient(address.url, address.token, org=address.org, timeout=60_000) as client:
        for record in client.query_api().query_stream(query):
            values = record.values
            tags = tuple(
                (name, value)
                for name, value in values.items()
                if name not in ("result", "table", "ns", "_start", "_stop", "_time")
                and name not in ("_value", "_field", "_measurement")
            )
            key = values["_measurement"], tags, int(values["ns"])
            value = values["_value"]
            if value is None:
                value = ""  # the client reads an empty text so; InfluxDB has no None
            if isinstance(value, str):
                value = value.replace("\r\n", "\n")  # as InfluxDB's CSV has each end of a line
            found[key][values["_field"]] = value
    return [_event(measurement, tags, f, ns) for (measurement, tags, ns), f in found.items()]


def _event(
    measurement: str, tags: Iterable[tuple[str, str]], fields: dict[str, Any], time_ns: int
) -> dict[str, Any]:
    own = dict(fields)
    event_id, trace_id = own.pop("tailrace.id"), own.pop("tailrace.trace", None)
    return {
        "measurement": _plain(measurement),
        "time": _EPOCH + timedelta(microseconds=time_ns // 1000),
        "tags": {_plain(key): _plain(value) for key, value in tags if key not in _HIDDEN},
        "fields": dict(_field(key, value) for key, value in own.items()),
        "trace_id": trace_id,
        "id": str(uuid.UUID(event_id)),
    }


def _field(key: str, value: Any) -> tuple[str, Any]:
    typed = _TYPED.fullmatch(key)
    if isinstance(value, str):
        value = _plain(value)
    if typed is None:
        return _plain(key), value
    return _plain(typed[2]), None if typed[1] == "none" else value


def _plain(text: str) -> str:
    return unquote(text[1:]) if text.startswith("~") else text
