"""What is stored comes back as it was: types, Unicode, 64 bits, microseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tailrace.pipeline.event import INT_MAX, INT_MIN

from .frames import make_event, make_events
from .hooks import Tools

VALUES: dict[str, Any] = {
    "int": 7,
    "int_zero": 0,
    "int_max": INT_MAX,
    "int_min": INT_MIN,
    "int_beyond_double": 2**53 + 1,
    "float": 12.5,
    "float_whole": 3.0,
    "float_tenth": 0.1,
    "float_long": 0.1 + 0.2,
    "float_small": 5e-324,
    "float_negative": -1234.5678,
    "yes": True,
    "no": False,
    "nothing": None,
    "empty": "",
    "text": "naïve café 数据 \U0001f30a 'quoted' \"twice\" back\\slash\nnew\tline",
    "looks_like_json": '{"a": [1, null]}',
    "looks_like_number": "007",
    "name with spaces, \"quotes\", 'ticks', %s and é": 1,
}
LARGE_FLOATS: dict[str, Any] = {"large": 1e22, "largest": 1.7976931348623157e308, "far": -1e17}


class ValuesContract(Tools):
    """Tests of what :meth:`stored_events` gives, where ``features.keeps_events``."""

    def test_values_come_back_exactly(self) -> None:
        backend = self.open_shard()
        self.needs(backend, "keeps_events")
        tags = {"plan": "pro", "empty": "", "naïve key": "数据 \U0001f30a", "a\\b": "'\"%s,= "}
        event = make_event(measurement="naïve 数据", tags=tags, fields=VALUES)
        event.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
        self.commit(backend, "1-0", events=[event])
        (found,) = self.stored_events(self.another(backend))
        assert found == event.as_dict()
        assert {key: type(value) for key, value in found["fields"].items()} == {
            key: type(value) for key, value in VALUES.items()
        }

    def test_large_floats_keep_their_value(self) -> None:
        """Their type may change: JSON in a database can turn 1e22 into an integer."""
        backend = self.open_shard()
        self.needs(backend, "keeps_events")
        self.commit(backend, "1-0", events=[make_event(fields=LARGE_FLOATS)])
        (found,) = self.stored_events(self.another(backend))
        assert {key: float(value) for key, value in found["fields"].items()} == LARGE_FLOATS

    def test_empty_tags_and_fields_come_back_empty(self) -> None:
        backend = self.open_shard()
        self.needs(backend, "keeps_events")
        self.commit(backend, "1-0", events=[make_event(tags={}, fields={})])
        (found,) = self.stored_events(self.another(backend))
        assert (found["tags"], found["fields"], found["trace_id"]) == ({}, {}, None)

    def test_times_are_kept_to_the_microsecond(self) -> None:
        backend = self.open_shard()
        self.needs(backend, "keeps_events")
        moments = [
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=UTC),
            datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
        ]
        events = make_events(len(moments))
        for event, moment in zip(events, moments, strict=True):
            event.time_ns = int((moment - moments[0]).total_seconds()) * 10**9
            event.time_ns += moment.microsecond * 1000
        self.commit(backend, "1-0", events=events)
        found = self.stored_events(self.another(backend))
        assert sorted(event["time"] for event in found) == sorted(moments)
