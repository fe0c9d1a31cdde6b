"""NDJSON: what is exported comes back the same, and bad lines cost themselves only."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.pipeline.config import Config
from tailrace.pipeline.event import INT_MAX, INT_MIN, Event, ns_from_datetime
from tailrace.pipeline.interchange.columns import Columns
from tailrace.pipeline.interchange.drafts import BadRecord, EventMaker
from tailrace.pipeline.interchange.ndjson import FlatNdjsonFormat, NdjsonFormat, encode_event
from tailrace.pipeline.interchange.times import TimeReader
from tailrace.pipeline.masking import Masker

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
KEY = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(INT_MIN, INT_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
EVENTS = st.builds(
    Event,
    KEY,
    st.integers(INT_MIN, INT_MAX),
    st.dictionaries(KEY, TEXT, max_size=5),
    st.dictionaries(KEY, VALUES, max_size=8),
    st.one_of(st.none(), TEXT),
    st.none(),
    st.binary(min_size=16, max_size=16),
)


def typed(event: Event) -> tuple[object, ...]:
    fields = {name: (type(value), repr(value)) for name, value in event.fields.items()}
    return (event.measurement, event.time_ns, event.tags, fields, event.trace_id, event.id)


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_what_is_exported_comes_back_the_same(event: Event) -> None:
    line = encode_event(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    draft = NdjsonFormat().parse(line)
    assert draft is not None
    (back,) = EventMaker(Config(), None).make([draft])
    assert back.rejected is None
    assert typed(back) == typed(event)


def test_a_float_that_a_database_made_an_integer_of_comes_back(read_file) -> None:
    line = encode_event(Event("m", 0, {}, {"x": 10**22, "y": 2**63 - 1}))
    (event,) = read_file(line, NdjsonFormat())
    assert event.fields == {"x": 1e22, "y": 2**63 - 1}
    assert type(event.fields["x"]) is float


def test_not_a_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="'x' is nan"):
        encode_event(Event("m", 0, {}, {"x": float("nan")}))


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"x":' + b"[" * 100_000,
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","extra":' + b'{"a":' * 100_000,
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"x":NaN}}',
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"x":1e999}}',
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"x":[1]}}',
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"x":"\\ud800"}}',
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"x":"\xff"}}',
        b'{"measurement":"m","time":"2026-01-01T00:00:00"}',
        b'{"measurement":"m","time":"2026-02-30T00:00:00Z"}',
        b'{"measurement":"m","time":"1500-01-01T00:00:00Z"}',
        b'{"measurement":"m","time":1700000000}',
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","id":"7"}',
        b'{"time":"2026-01-01T00:00:00Z"}',
        b'{"measurement":"m"}',
    ],
)
def test_a_bad_line_is_told_and_costs_itself_only(read_file, line: bytes) -> None:
    good = b'{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"x":1}}\n'
    events = read_file(good + line + b"\n\n" + good, NdjsonFormat())
    assert [event.rejected is None for event in events].count(True) == 2
    (bad,) = [event for event in events if event.rejected]
    assert bad.rejected.startswith("line 2: ")
    assert len({event.id for event in events}) == 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"x": 2**63}, "beyond 64 bits"),
        ({"x" * 101: 1}, "1 to 100 characters"),
        ({f"f{number}": 1 for number in range(101)}, "MAX_FIELDS"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_the_rules_of_recording(
    read_file, fields: dict[str, object], reason: str
) -> None:
    line = {"measurement": "m", "time": "2026-01-01T00:00:00Z", "fields": fields}
    (event,) = read_file(json.dumps(line).encode(), NdjsonFormat())
    assert event.rejected.startswith("line 1: ")
    assert reason in event.rejected


def test_nul_and_long_texts_are_mended(read_file) -> None:
    line = {
        "measurement": "m",
        "time": "2026-01-01T00:00:00Z",
        "fields": {"a": "x\0y", "b": "z" * 20_000},
    }
    (event,) = read_file(json.dumps(line).encode(), NdjsonFormat())
    assert event.rejected is None
    assert event.fields["a"] == "x\N{REPLACEMENT CHARACTER}y"
    assert len(event.fields["b"]) == 16_384


def test_secrets_are_masked_before_storage_even_in_bad_lines(read_file) -> None:
    line = {
        "measurement": "m",
        "time": "2026-01-01T00:00:00Z",
        "tags": {"mail": "ann@example.com"},
        "fields": {"password": 123456, "note": "token=hunter2xyz", "n": 4242424242424242},
    }
    bad = b'{"password": "hunter2abc"'
    events = read_file(json.dumps(line).encode() + b"\n" + bad, NdjsonFormat(), masker=Masker())
    assert events[0].tags == {"mail": "***"}
    assert events[0].fields == {"password": "***", "note": "token=***", "n": "***"}
    assert "hunter2" not in repr(events)


def test_a_second_reading_gives_the_same_ids(read_file) -> None:
    content = b"".join(
        b'{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"x":1}}\n' for _ in range(50)
    )
    first, second = read_file(content, NdjsonFormat()), read_file(content, NdjsonFormat())
    assert [event.id for event in first] == [event.id for event in second]
    assert len({event.id for event in first}) == 50  # equal lines are events of their own


def test_any_objects_are_read_flat(read_file) -> None:
    columns = Columns(time="ts", measurement="order", tags=("user.plan",), trace_id="trace")
    line = {
        "ts": 1_700_000_000.25,
        "trace": "abc",
        "user": {"plan": "pro", "age": 41},
        "items": [1, {"a": 2}],
        "paid": True,
        "zip": "0123",
        "empty": None,
    }
    (event,) = read_file(json.dumps(line).encode(), FlatNdjsonFormat(columns, TimeReader("s")))
    assert event.time_ns == 1_700_000_000_250_000_000
    assert (event.measurement, event.trace_id, event.tags) == ("order", "abc", {"user.plan": "pro"})
    assert event.fields == {"user.age": 41, "items": '[1,{"a":2}]', "paid": True, "zip": "0123"}


def test_flat_objects_are_bounded() -> None:
    form = FlatNdjsonFormat(Columns(measurement="m"), TimeReader("s"))
    deep = b'{"a":' * 20 + b"1" + b"}" * 20
    with pytest.raises(BadRecord, match="deeper"):
        form.parse(deep)
    wide = json.dumps({f"k{number}": number for number in range(2_000)}).encode()
    with pytest.raises(BadRecord, match="1000 keys"):
        form.parse(wide)


def test_times_keep_their_nanoseconds() -> None:
    moment = ns_from_datetime(datetime(2026, 1, 1, tzinfo=UTC)) + 123_456_789
    draft = NdjsonFormat().parse(encode_event(Event("m", moment, {}, {})))
    assert draft is not None
    assert draft.time_ns == moment
