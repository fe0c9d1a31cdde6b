from __future__ import annotations

import enum
import logging
import math
import resource
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.utils.functional import SimpleLazyObject, lazy, lazystr
from django.utils.safestring import mark_safe
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.pipeline.codec import decode_events, decode_header
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import INT_MAX, INT_MIN, INVALID_MEASUREMENT, MEASUREMENTS_MAX
from tailrace.pipeline.normalize import OVERFLOW_TAG, Normalizer
from tailrace.pipeline.producer import Producer

TIME_NS = 1_700_000_000_000_000_000
HUGE = "x" * 100_000_000
Event = tuple[Any, ...]


class Hostile:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __hash__ = __len__ = __iter__ = __bool__ = __eq__ = __repr__  # type: ignore

    def __getattr__(self, name: str) -> Any:
        if name == "_repr_pretty_":  # Hypothesis asks when it shows a failure
            return lambda printer, cycle: printer.text("Hostile()")
        raise RuntimeError(name)


class Plan(enum.Enum):
    PRO = "pro"
    FIVE = 5


@pytest.fixture
def failed() -> list[str]:
    return []


@pytest.fixture
def normalizer(failed: list[str]) -> Normalizer:
    return Normalizer(Config(), lambda measurement, error: failed.append(measurement))


def raw(tags: Any = None, fields: Any = None, measurement: Any = "m", when: Any = TIME_NS) -> Event:
    return (measurement, when, tags, fields, None)


def one(normalizer: Normalizer, event: Event) -> Event:
    (found,) = wire(normalizer, [event])
    check_encodable(found)
    return found


def wire(normalizer: Normalizer, batch: list[Event]) -> list[Event]:
    """Do what the flusher does with a batch."""
    found = normalizer.batch(batch)
    try:
        Producer(1, {}).payload(found)
    except (TypeError, ValueError, OverflowError):
        return [normalizer.slow(event) for event in found]
    return found


def check_encodable(event: Event) -> None:
    """Check that an event survives the wire as an event, not as a dead letter of the codec."""
    producer = Producer(1, {})
    _, frame = producer.frame(0, [event[0]], producer.payload([event]))
    (decoded,) = decode_events(frame, decode_header(frame))
    reason = event[5] if len(event) > 5 else None
    assert decoded.rejected == reason
    assert len(msgspec.msgpack.encode(event)) < 300_000


def field(normalizer: Normalizer, value: Any) -> Any:
    found = one(normalizer, raw({}, {"x": value}))
    assert len(found) == 5, f"rejected: {found[5]}"
    return found[3]["x"]


def reason_of(found: Event) -> str:
    assert len(found) == 6, f"{found!r:.200} is not rejected"
    return str(found[5])


# --- what is good stays as it is

GOOD = (
    st.booleans()
    | st.none()
    | st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), GOOD), max_size=5))
def test_good_values_pass_unchanged_on_both_paths(batch: list[dict[str, Any]]) -> None:
    normalizer = Normalizer(Config(), lambda measurement, error: None)
    for _ in range(2):  # the first time on the slow path, then on the fast one
        found = normalizer.batch([raw({"t": "v"}, fields) for fields in batch])
        assert [event[3] for event in found] == batch
        for event, fields in zip(found, batch, strict=True):
            assert [type(v) for v in event[3].values()] == [type(v) for v in fields.values()]


def test_an_event_that_was_seen_before_takes_the_fast_path(
    normalizer: Normalizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = raw({"plan": "pro"}, {"amount": 1.5, "n": 1, "ok": True, "text": "x", "none": None})
    first = one(normalizer, event)
    monkeypatch.setattr(normalizer, "slow", lambda raw: pytest.fail(f"slow path for {raw}"))
    assert normalizer.batch([event]) == [first] == [event]


# --- values that are mended


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Decimal("12.50"), 12.5),
        (Plan.PRO, "pro"),
        (Plan.FIVE, 5),
        (timedelta(seconds=1, milliseconds=500), 1.5),
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "2024-01-02T03:04:05+00:00"),
        (date(2024, 1, 2), "2024-01-02"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (mark_safe("<b>"), "<b>"),
        (lazystr("lazy"), "lazy"),
        (lazy(lambda: 7, int)(), "7"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83c\udf0a", "\U0001f30a"),  # a pair that belongs together
    ],
    ids=repr,
)
def test_usual_types_become_storable_ones(normalizer: Normalizer, value: Any, stored: Any) -> None:
    found = field(normalizer, value)
    assert found == stored
    assert type(found) is type(stored)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (1.5, "1.5"),
        (Plan.PRO, "pro"),
        (mark_safe("safe"), "safe"),
        (lazystr("lazy"), "lazy"),
        ("a\0b", "a\ufffdb"),
        ("x" * 300, "x" * 199 + "…"),
    ],
    ids=repr,
)
def test_tags_become_strings(normalizer: Normalizer, value: Any, stored: str) -> None:
    for _ in range(2):
        found = one(normalizer, raw({"t": value}, {}))
        assert found[2] == {"t": stored}
        assert type(found[2]["t"]) is str


def test_a_tag_that_is_none_is_left_out(normalizer: Normalizer) -> None:
    assert one(normalizer, raw({"t": None, "u": "v"}, {}))[2] == {"u": "v"}


def test_what_was_mended_is_counted(normalizer: Normalizer) -> None:
    for _ in range(3):
        field(normalizer, "y" * 20_000)
        field(normalizer, "a\0b")
    notes = {kind: dict(counts) for kind, counts in normalizer.notes.items()}
    assert notes == {"truncated": {"m": 3}, "replaced": {"m": 3}}


def test_a_trace_id_is_mended_on_both_paths(normalizer: Normalizer) -> None:
    """A NUL in it would be refused by PostgreSQL, and so would the dead letter."""
    for trace_id, stored in [("ab\0c", "ab\ufffdc"), ("\ud800", "\ufffd"), (7, "7")]:
        for _ in range(2):
            found = one(normalizer, ("m", TIME_NS, {}, {}, trace_id))
            assert found[4] == stored
    assert len(one(normalizer, ("m", TIME_NS, {}, {}, "t" * 1000))[4]) == 64


# --- values that are rejected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "leave it out where there is no value"),
        (math.inf, "leave it out where there is no value"),
        (-math.inf, "leave it out where there is no value"),
        (2**63, "beyond 64 bits"),
        (-(2**63) - 1, "beyond 64 bits"),
        (10**100_000, "beyond 64 bits"),
        (Decimal("NaN"), "leave it out"),
        (Decimal("sNaN"), "leave it out"),
        (Decimal("1e400"), "leave it out"),
        ({"y": 1}, "fields are numbers, booleans or strings"),
        (["y"], "fields are numbers, booleans or strings"),
        (b"bytes", "fields are numbers, booleans or strings"),
        (1j, "fields are numbers, booleans or strings"),
        (object(), "fields are numbers, booleans or strings"),
        (Hostile(), "fields are numbers, booleans or strings"),
        (lazy(lambda: 1 / 0, str)(), "ZeroDivisionError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bad_fields_are_rejected_with_the_reason(
    normalizer: Normalizer, value: Any, reason: str
) -> None:
    for _ in range(2):
        found = one(normalizer, raw({}, {"x": value}))
        assert reason in reason_of(found)
        assert found[0] == "m", "the ledger counts it under its own measurement"


@pytest.mark.parametrize(
    "value",
    [10**5000, {"a": 1}, b"x", Hostile(), lazy(lambda: 1 / 0, str)()],
    ids=lambda value: type(value).__name__,
)
def test_bad_tags_are_rejected(normalizer: Normalizer, value: Any) -> None:
    for _ in range(2):
        assert reason_of(one(normalizer, raw({"t": value}, {})))


@pytest.mark.parametrize(
    "tags",
    [[("a", "b")], "tags", 7, Hostile(), {1: "x"}, {"": "x"}],
    ids=lambda value: type(value).__name__,
)
def test_tags_and_fields_must_be_dicts_with_names(normalizer: Normalizer, tags: Any) -> None:
    assert reason_of(one(normalizer, raw(tags, {})))
    assert reason_of(one(normalizer, raw({}, tags)))


def test_too_many_fields_are_rejected_with_the_setting(normalizer: Normalizer) -> None:
    found = one(normalizer, raw({}, {f"f{n}": n for n in range(101)}))
    assert "TAILRACE['MAX_FIELDS'] is 100" in reason_of(found)


@pytest.mark.parametrize(
    "measurement",
    ["", None, 7, "x" * 101, ["m"], Hostile()],
    ids=lambda value: type(value).__name__,
)
def test_a_bad_measurement_is_counted_as_invalid(normalizer: Normalizer, measurement: Any) -> None:
    found = one(normalizer, raw({}, {}, measurement))
    assert "measurement" in reason_of(found)
    assert found[0] == INVALID_MEASUREMENT


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        (datetime(2024, 1, 1), "naive datetime 2024-01-01T00:00:00; pass an aware one"),
        (datetime(1, 1, 1, tzinfo=UTC), "1677 to 2262"),
        (datetime(9999, 1, 1, tzinfo=UTC), "1677 to 2262"),
        (2**63, "aware datetime or integer nanoseconds"),
        (1.5, "aware datetime or integer nanoseconds"),
        (math.nan, "aware datetime or integer nanoseconds"),
        (True, "aware datetime or integer nanoseconds"),
        (None, "aware datetime or integer nanoseconds"),
        ("now", "aware datetime or integer nanoseconds"),
        (Hostile(), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_bad_time_is_rejected(normalizer: Normalizer, when: Any, reason: str) -> None:
    one(normalizer, raw({}, {}))
    for _ in range(2):
        assert reason in reason_of(one(normalizer, raw({}, {}, when=when)))


def test_an_aware_datetime_is_exact(normalizer: Normalizer) -> None:
    moment = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)
    assert one(normalizer, raw({}, {}, when=moment))[1] == 1_709_251_199_999_999_000


def test_a_bad_event_does_no_harm_to_its_batch(normalizer: Normalizer) -> None:
    bad = [raw({}, {"x": Hostile()}), raw(Hostile(), {}), raw({}, {}, Hostile()), raw({}, {}, "")]
    bad += [raw({}, {}, when=Hostile()), ("m", TIME_NS, {}, {}, Hostile())]
    batch = [event for one_bad in bad for event in (raw({"t": "v"}, {"n": 1}), one_bad)]
    for _ in range(2):
        found = wire(normalizer, batch)
        assert [len(event) for event in found] == [5, 6] * 6
        for event in found:
            check_encodable(event)


# --- recorders finish their events here


def test_a_recorders_error_costs_its_event_only(normalizer: Normalizer, failed: list[str]) -> None:
    def finish(kept: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return {"kept": kept}, {"n": 1 // len(kept)}

    found = normalizer.batch([("m", TIME_NS, finish, kept, None) for kept in ("a", "", "b")])
    assert [event[2] for event in found] == [{"kept": "a"}, {"kept": "b"}]
    assert failed == ["m"]


# --- bounds: in size, in number, in time


def test_a_huge_string_is_cut_fast(normalizer: Normalizer) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    found = field(normalizer, HUGE)
    elapsed = time.perf_counter() - started
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(found), found[-1]) == (16_384, "…")
    assert elapsed < 0.2
    assert peak_bytes < 2_000_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: raw({}, {"x": [HUGE]}),
        lambda: raw({}, {"x": {"y": HUGE}}),
        lambda: raw({}, {"x": HUGE.encode()}),
        lambda: raw({}, {"x": list(range(1_000_000))}),
        lambda: raw({}, dict.fromkeys(range(1_000_000))),
        lambda: raw(HUGE, {}),
        lambda: raw({HUGE: "x"}, {}),
        lambda: raw({"t": [HUGE]}, {}),
        lambda: raw({}, {}, HUGE),
        lambda: raw({}, {}, when=[HUGE]),
        lambda: raw({}, {"x": 10**1_000_000}),
        lambda: raw({}, {"x": [[HUGE]]}),
    ],
)
def test_huge_rejected_things_are_shown_shortly_and_fast(
    normalizer: Normalizer, make: Callable[[], Event]
) -> None:
    event = make()
    tracemalloc.start()
    started = time.perf_counter()
    (found,) = normalizer.batch([event])
    elapsed = time.perf_counter() - started
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason_of(found)
    assert elapsed < 0.2
    assert peak_bytes < 2_000_000
    check_encodable(found)


def test_a_tag_with_a_million_values_is_bounded_and_names_itself_once(
    normalizer: Normalizer, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stored: dict[str, int] = {}
    with caplog.at_level(logging.WARNING, logger="tailrace"):
        for start in range(0, 1_000_000, 10_000):
            batch = [raw({"user": f"u{n}"}, {}) for n in range(start, start + 10_000)]
            for event in normalizer.batch(batch):
                stored[event[2]["user"]] = stored.get(event[2]["user"], 0) + 1
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sum(stored.values()) == 1_000_000
    assert len(stored) == Config().tag_max_values + 1
    assert stored[OVERFLOW_TAG] == 1_000_000 - Config().tag_max_values
    assert normalizer.notes["tag_overflow"]["m"] == stored[OVERFLOW_TAG]
    assert grown_kb < 30_000
    (message,) = [record.getMessage() for record in caplog.records]
    assert "'user'" in message
    assert "'m'" in message
    assert "Make it a field, or raise TAILRACE['TAG_MAX_VALUES']" in message


@pytest.mark.parametrize("what", ["tags", "fields", "measurements"])
def test_names_that_never_repeat_take_no_more_memory(normalizer: Normalizer, what: str) -> None:
    def make(number: int) -> Event:
        name = f"name-{number:07}"
        if what == "measurements":
            return raw({}, {}, name)
        return raw({name: "x"}, {}) if what == "tags" else raw({}, {name: 1})

    def feed(start: int, count: int) -> None:
        for number in range(start, start + count):
            normalizer.batch([make(number)])

    feed(0, 5_000)
    tracemalloc.start()
    feed(5_000, 20_000)
    grown_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown_bytes < 200_000


def test_too_many_measurements_are_rejected(normalizer: Normalizer) -> None:
    for number in range(MEASUREMENTS_MAX):
        assert len(one(normalizer, raw({}, {}, f"m{number}"))) == 5
    found = one(normalizer, raw({}, {}, "one more"))
    assert "put what varies into a tag or field" in reason_of(found)
    assert found[0] == INVALID_MEASUREMENT
    assert len(one(normalizer, raw({}, {}, "m0"))) == 5


# --- anything at all

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=10)
    | st.decimals()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.just(...),  # stands for Hostile(), which Hypothesis could not show
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING), max_size=4))
def test_nothing_that_is_recorded_stops_the_flusher(batch: list[Event]) -> None:
    normalizer = Normalizer(Config(), lambda measurement, error: None)
    for _ in range(2):
        found = wire(normalizer, [hostile(event) for event in batch])
        assert len(found) == len(batch)
        for event in found:
            check_encodable(event)


def test_a_lazy_object_is_not_asked_to_do_its_work(normalizer: Normalizer) -> None:
    """``request.user`` would query the database, on the flusher's thread."""
    user = SimpleLazyObject(lambda: pytest.fail("evaluated"))
    for event in (raw({}, {"user": user}), raw({"user": user}, {}), raw(user, {}), raw({}, user)):
        assert "SimpleLazyObject" in reason_of(one(normalizer, event))


def hostile(value: Any) -> Any:
    if value is ...:
        return Hostile()
    if isinstance(value, list | tuple):
        return type(value)(hostile(item) for item in value)
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    return value


class Endless(Mapping[str, Any]):
    """Claims to be small, and never ends."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> Any:
        return 1

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield f"f{number}"


def test_a_mapping_that_never_ends_is_cut_off(normalizer: Normalizer) -> None:
    assert reason_of(one(normalizer, raw({}, Endless())))
