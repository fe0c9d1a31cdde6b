"""Parameters, as people write them; digests, whatever order and storage events come from."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from tailrace.pipeline.backfill.digest import Digest, digest_sum
from tailrace.pipeline.backfill.parameters import (
    Parameter,
    ParameterError,
    from_json,
    parse,
    to_json,
)
from tailrace.pipeline.event import Event

PARAMETERS = (
    Parameter(name="name", is_required=True),
    Parameter(name="lines", type="lines"),
    Parameter(name="count", type="integer", default=5, minimum=1, maximum=10),
    Parameter(name="share", type="number"),
    Parameter(name="sure", type="boolean", default=False),
    Parameter(name="at", type="time"),
    Parameter(name="which", type="choice", choices=(("a", "A"), ("b", "B"))),
)


def test_texts_become_values_and_survive_the_database() -> None:
    values = parse(
        PARAMETERS,
        {
            "name": " x ",
            "lines": "a\n\n b ",
            "count": "7",
            "share": "0.5",
            "sure": "yes",
            "at": "2026-01-31T12:00:00+01:00",
            "which": "b",
        },
    )
    assert values == {
        "name": "x",
        "lines": ["a", "b"],
        "count": 7,
        "share": 0.5,
        "sure": True,
        "at": datetime(2026, 1, 31, 11, tzinfo=UTC),
        "which": "b",
    }
    assert from_json(PARAMETERS, to_json(values)) == values
    assert from_json(PARAMETERS[:1], to_json(values)) == {"name": "x"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("name", "", "must be given"),
        ("count", "0", "at least 1 and at most 10"),
        ("count", "1.5", "no whole number"),
        ("count", True, "no number"),
        ("share", "nan", None),
        ("sure", "perhaps", "neither true nor false"),
        ("at", "yesterday", "write it as 2026-01-31"),
        ("which", "c", "not one of: a, b"),
        ("nmae", "x", "no such parameter; there are: name"),
    ],
)
def test_what_is_wrong_is_told_by_name(name: str, value: Any, words: str | None) -> None:
    if words is None:
        assert parse(PARAMETERS, {"name": "x", name: value})[name] != value
        return
    with pytest.raises(ParameterError) as caught:
        parse(PARAMETERS, {"name": "x", name: value})
    assert words in caught.value.problems[name]


def test_nan_is_outside_of_any_bound() -> None:
    bounded = (Parameter(name="share", type="number", minimum=0),)
    with pytest.raises(ParameterError):
        parse(bounded, {"share": "nan"})


def event(number: int = 0, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "measurement": "checkout",
        "time_ns": number * 1_000 + 7,
        "tags": {"a": "1", "b": "2"},
        "fields": {"n": number, "x": 1.5},
        "id": number.to_bytes(16, "big"),
    }
    return Event(**{**values, **changes})


def digest(*events: Event) -> str:
    made = Digest()
    made.add(events)
    return str(made)


def test_order_and_slices_make_no_difference() -> None:
    events = [event(number) for number in range(100)]
    shuffled = random.Random(1).sample(events, len(events))
    assert digest(*events) == digest(*shuffled)
    assert digest_sum(digest(*events[:30]), digest(*events[30:])) == digest(*events)


@pytest.mark.parametrize(
    "same",
    [
        {"time_ns": 999},
        {"tags": {"b": "2", "a": "1"}},
        {"fields": {"x": 1.5, "n": 0.0}},
        {"fields": {"n": 0, "x": 1.5, "gone": None}},
        {"trace_id": ""},
    ],
)
def test_what_storages_do_not_tell_apart_is_the_same(same: dict[str, Any]) -> None:
    assert digest(event(0, **same)) == digest(event(0))


@pytest.mark.parametrize(
    "other",
    [
        {"time_ns": 1_000},
        {"tags": {"a": "1"}},
        {"fields": {"n": 0, "x": 1.25}},
        {"fields": {"n": "0", "x": 1.5}},
        {"fields": {"n": 0, "x": 1.5, "more": False}},
        {"trace_id": "f"},
        {"id": b"x" * 16},
        {"measurement": "request"},
    ],
)
def test_everything_else_shows(other: dict[str, Any]) -> None:
    assert digest(event(0, **other)) != digest(event(0))


def test_a_doubled_event_shows() -> None:
    assert digest(event(1), event(1)) != digest(event(1))
