"""The encoder, against a parser written from the specification."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.safestring import SafeString
from hypothesis import given, settings
from hypothesis import strategies as st
from influx.strict_line_protocol import LineError, parse, parse_line

from tailrace.backends.influx.layout import (
    KINDS,
    PLAIN,
    TRACE_FIELD,
    decode,
    decode_field,
    encode_name,
    encode_value,
    field_keys,
    field_value,
    typed_key,
)
from tailrace.backends.line_protocol import LineEncoder, Marks
from tailrace.pipeline.event import INT_MAX, INT_MIN, Event

HARD = (
    *("", " ", ",", "=", "\\", "\\\\", '"', "'", "\n", "\r", "\r\n", "\t", "\0", "\x7f", "\x85"),
    *(
        "a b",
        "a,b",
        "a=b",
        "a\\",
        "\\a",
        "a\\,",
        "a\\ b",
        'a"b',
        "#",
        "# m",
        "_m",
        "time",
        "~",
        "~a",
    ),
    *("%", "100%", "%s", "%(x)s", "%41", "{}", "tailrace.slot", "tailrace.int.x", "tailrace.id"),
    *(
        "naïve",
        "数据",
        "\U0001f30a",
        "e\u0301",
        "\u2028",
        "\ufeff",
        "x" * 300,
        "nan",
        "inf",
        "null",
    ),
)
TRACES = (None, None, "0af7651916cd43dd8448eb211c80319c", 'a"b\\', "a b,c=d")
FUZZED_EVENTS = int(os.environ.get("TAILRACE_FUZZED_EVENTS", "4000"))
_BATCH = 500


def encoded(events: list[Event]) -> tuple[list[str | None], dict[int, str]]:
    """Return each event's line, with its place for a time; ``None`` where it is refused."""
    found = LineEncoder().encode(events)
    marks = Marks(["x"] * len(events), [str(at) for at in range(len(events))])
    made = found.lines(marks)
    lines = dict(zip(made.places, made.texts, strict=True))
    assert all(found.reasons.values()), "a refusal says why"
    assert lines.keys() == set(range(len(events))) - found.reasons.keys()
    return [lines.get(at) for at in range(len(events))], found.reasons


def event(
    measurement: str = "m",
    tags: dict[str, str] | None = None,
    fields: dict[str, Any] | None = None,
    trace_id: str | None = None,
) -> Event:
    return Event(measurement, 0, tags or {}, fields or {}, trace_id)


def read_back(line: str) -> tuple[str, dict[str, str], dict[str, Any], str | None]:
    """Return what a line says of an event, by the strict parser."""
    point = parse_line(line)
    fields = {}
    for key, value in point.fields.items():
        found = decode_field(key)
        if found is not None:
            fields[found[0]] = field_value(found[1], value)
    tags = {decode(key): decode(value) for key, value in point.tags}
    trace_id = point.fields.get(TRACE_FIELD)
    assert trace_id is None or isinstance(trace_id, str)
    return decode(point.measurement), tags, fields, trace_id


def check(events: list[Event]) -> int:
    """Check that each event comes back as it was, or was refused; return how many came back."""
    lines, _ = encoded(events)
    assert len(parse("\n".join(line for line in lines if line))) == sum(map(bool, lines))
    for sent, line in zip(events, lines, strict=True):
        if line is not None:
            found = read_back(line)
            assert found == (sent.measurement, sent.tags, sent.fields, sent.trace_id)
            assert [type(found[2][key]) for key in sent.fields] == [
                type(value) for value in sent.fields.values()
            ]
    return sum(map(bool, lines))


def fuzzed(seed: int, count: int) -> Iterator[Event]:
    """Yield events of hard names and values; the same for the same seed."""
    randomly = random.Random(seed)
    alphabet = [*HARD, *"abcdefghijklmnop"]

    def text() -> str:
        kind = randomly.random()
        if kind < 0.5:
            return randomly.choice(HARD)
        if kind < 0.9:
            return "".join(randomly.choices(alphabet, k=randomly.randrange(1, 5)))
        code = randomly.randrange(0x110000)
        return chr(code) + randomly.choice(HARD)

    def value() -> Any:
        kind = randomly.randrange(7)
        if kind == 0:
            return randomly.choice((INT_MIN, INT_MAX, 0, -1, randomly.getrandbits(63), 2**64))
        if kind == 1:
            return randomly.choice(
                (0.1, -0.0, 1e300, 5e-324, math.nan, math.inf, randomly.random())
            )
        if kind == 2:
            return randomly.choice((True, False, None))
        return text()

    for _ in range(count):
        tags = {text(): text() for _ in range(randomly.randrange(4))}
        fields = {text(): value() for _ in range(randomly.randrange(6))}
        yield event(text(), tags, fields, randomly.choice(TRACES))


def test_fuzzed_events_make_lines_that_the_parser_takes() -> None:
    """``TAILRACE_FUZZED_EVENTS=1000000`` for as many; a batch at a time."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"seed: {seed}")
    good, batch = 0, []
    for made in fuzzed(seed, FUZZED_EVENTS):
        batch.append(made)
        if len(batch) == _BATCH:
            good += check(batch)
            batch = []
    good += check(batch)
    assert good > FUZZED_EVENTS / 3, "a fuzz that is refused shows nothing"


_text = st.text(max_size=12) | st.sampled_from(HARD)
_values = (
    st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
    | _text
)
_events = st.builds(
    event,
    _text,
    st.dictionaries(_text, _text, max_size=4),
    st.dictionaries(_text, _values, max_size=5),
    st.sampled_from(TRACES),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_events, max_size=6))
def test_any_event_comes_back_as_it_was(events: list[Event]) -> None:
    assert check(events) == len(events), "everything that is Unicode can be written"


@given(_text)
def test_names_are_one_to_one(name: str) -> None:
    assert decode(encode_name(name)) == decode(encode_value(name)) == name
    for kind, key in zip((PLAIN, *KINDS), field_keys(name), strict=True):
        assert decode_field(key) == (name, kind)


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("other", ["x", "tailrace.int.x", "~x", ""])
def test_no_two_names_share_a_key(name: str, other: str) -> None:
    if name != other:
        assert not set(field_keys(name)) & set(field_keys(other))
        assert encode_value(name) != encode_value(other)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"v": math.nan}, "not finite"),
        ({"v": -math.inf}, "not finite"),
        ({"v": 2**63}, "64 bits"),
        ({"v": -(2**63) - 1}, "64 bits"),
        ({"v": b"bytes"}, "bytes"),
        ({"v": [1]}, "list"),
        ({"v": "\ud800"}, "no Unicode"),
        ({"\ud800": 1}, "no Unicode"),
    ],
)
def test_what_cannot_be_written_is_refused_alone(fields: dict[str, Any], reason: str) -> None:
    names = list(fields)
    good = [event(fields={names[0] if names[0] == "v" else "v": value}) for value in (1.5, 2, "x")]
    lines, reasons = encoded([good[0], event(fields=fields), *good[1:]])
    assert lines[1] is None
    assert reason in reasons[1]
    assert all(lines[at] for at in (0, 2, 3))


def test_tags_of_a_class_of_their_own_are_text() -> None:
    """Django's templates and forms give such."""
    (line,), _ = encoded([event(tags={"device_id": SafeString("dev 1")}, fields={"a": 1})])
    assert line is not None
    assert read_back(line)[1] == {"device_id": "dev 1"}


def test_text_that_looks_like_no_number_is_text() -> None:
    (line,), _ = encoded([event(fields={"a": "nan", "b": 1.5, "c": "null", "d": "inf"})])
    assert line is not None
    assert read_back(line)[2] == {"a": "nan", "b": 1.5, "c": "null", "d": "inf"}


def test_tags_that_are_too_long_are_refused() -> None:
    long = event(tags={str(number): "x" * 1_000 for number in range(70)})
    lines, reasons = encoded([event(), long])
    assert lines[0]
    assert "60000 bytes" in reasons[1]


def test_what_the_clients_own_point_makes_of_hard_names_is_refused_by_the_parser() -> None:
    """The parser can fail: these are real lines of influxdb-client 1.50's Point."""
    for line in (
        "m,k\\=v f=1i 1",
        "m f\\=1i 1",
        "m,a= f=1i 1",
        " f=1i 1",
        "m f=9223372036854775808i 1",
        "m,a=b\nc f=1i 1",
        "m f=nan 1",
        "m f=1i",
        "m f=1i 1.5",
    ):
        with pytest.raises(LineError):
            parse_line(line)


def test_typed_keys_are_what_readers_look_for() -> None:
    assert typed_key("amount", "int") == "tailrace.int.amount"
    assert field_keys("amount")[0] == "amount"


def test_random_times_are_exact_to_the_nanosecond() -> None:
    """Times are integers all the way: nothing is divided, so there is nothing to round."""
    from tailrace.backends.influx.identity import measured_times_ns, set_identity

    randomly = random.Random(3)
    times = [randomly.randrange(INT_MIN + 2_000, INT_MAX - 2_000) for _ in range(20_000)]
    made = [Event("m", time_ns, {}, {}, id=randomly.randbytes(16)) for time_ns in times]
    measured = measured_times_ns([one.id for one in made], times)
    for one, measured_ns in zip(made, measured, strict=True):
        set_ns = set_identity(one, 0, randomly.randrange(10**6)).time_ns
        assert measured_ns // 1000 == set_ns // 1000 == one.time_ns // 1000
        number = int.from_bytes(one.id[10:], "big")
        assert measured_ns % 1000 == 900 + number % 100
