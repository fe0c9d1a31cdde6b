"""Partials: merged in any order they answer as all values at once would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.backends.reading.result import plain_number
from tailrace.backends.rollups.groups import group_reader, group_text
from tailrace.backends.rollups.partial import COLUMNS, Partial
from tailrace.backends.testing.reading_oracle import compute
from tailrace.pipeline.event import INT_MAX, INT_MIN
from tailrace.pipeline.sketch import RELATIVE_ERROR, Sketch

wholes = st.integers(INT_MIN, INT_MAX)
floats = st.floats(-1e15, 1e15, allow_subnormal=True)
anything = wholes | floats | st.sampled_from([None, True, "text", ""])
PERCENTILES = ("p50", "p75", "p90", "p95", "p99")


def partial_of(values: Sequence[Any]) -> Partial:
    present = [each for each in values if each is not None]
    numbers = [plain_number(each) for each in present if type(each) in (int, float)]
    ints = [each for each in numbers if isinstance(each, int)]
    others = [each for each in numbers if isinstance(each, float)]
    return Partial(
        len(present),
        wholes=len(ints),
        others=len(others),
        whole_sum=sum(ints),
        other_sum=math.fsum(others),
        whole_min=min(ints, default=None),
        whole_max=max(ints, default=None),
        other_min=min(others, default=None),
        other_max=max(others, default=None),
        sketch=Sketch.of(float(each) for each in [*ints, *others]),
    )


@given(st.lists(st.lists(anything, max_size=8), max_size=6), st.randoms())
def test_merged_partials_answer_as_all_values_would(parts: list[list[Any]], random: Any) -> None:
    merged = Partial()
    shuffled = [*parts]
    random.shuffle(shuffled)
    for part in shuffled:
        merged.merge(Partial.from_columns([partial_of(part).to_columns()[c] for c in COLUMNS]))
    values = [each for part in parts for each in part if each is not None]
    numbers = [plain_number(each) for each in values if type(each) in (int, float)]
    assert merged.final("count") == len(values)
    magnitude = float(sum(abs(each) for each in numbers))
    for function in ("min", "max", "sum", "avg"):
        found = merged.final(function)
        if not numbers:
            assert found is None
            continue
        right = compute(function, numbers)
        assert type(found) is type(right)
        if isinstance(right, int) or function in ("min", "max"):
            assert found == right
        else:
            assert math.isclose(found, right, rel_tol=1e-12, abs_tol=magnitude * 1e-12)


@given(st.lists(st.floats(1e-6, 1e12) | st.integers(1, INT_MAX), min_size=1, max_size=50))
def test_percentiles_are_within_the_stated_error(values: list[Any]) -> None:
    half = len(values) // 2
    merged = partial_of(values[:half])
    merged.merge(partial_of(values[half:]))
    for function in PERCENTILES:
        right = compute(function, values)
        assert abs(merged.final(function) - right) <= 0.01 * right
    assert RELATIVE_ERROR < 0.01


def test_without_a_sketch_there_are_no_percentiles() -> None:
    assert Partial(3, wholes=3, whole_sum=6, whole_min=1, whole_max=3).final("p95") is None


@given(st.lists(st.decimals(-(10**9), 10**9, places=3, allow_nan=False), min_size=1, max_size=9))
def test_decimals_stay_decimals(values: list[Decimal]) -> None:
    merged = Partial()
    for each in values:
        one = Partial(1, others=1, other_sum=each, other_min=each, other_max=each)
        merged.merge(Partial.from_columns([one.to_columns()[c] for c in COLUMNS]))
    for function, right in (("sum", sum(values)), ("min", min(values)), ("max", max(values))):
        found = merged.final(function, 3)
        assert isinstance(found, Decimal)
        assert found == right
        assert found.as_tuple().exponent == -3
    assert math.isclose(
        merged.final("avg", 3), float(sum(values) / len(values)), abs_tol=1e-9, rel_tol=1e-12
    )


@given(st.lists(floats | wholes | st.none()), st.booleans())
def test_a_row_keeps_everything(values: list[Any], has_sketch: bool) -> None:
    partial = partial_of(values)
    if not has_sketch:
        partial.sketch = None
    columns = partial.to_columns()
    again = Partial.from_columns([columns[name] for name in COLUMNS])
    assert again == partial
    assert again.to_columns() == columns


@pytest.mark.parametrize("extreme", [5e-324, -5e-324, 1.7976931348623157e308, 0.1])
def test_floats_come_back_to_the_last_bit(extreme: float) -> None:
    columns = partial_of([extreme]).to_columns()
    again = Partial.from_columns([columns[name] for name in COLUMNS])
    assert again.final("min") == again.final("max") == again.final("sum") == extreme


@given(st.lists(st.none() | st.text()))
def test_groups_of_tags_come_back(values: list[str | None]) -> None:
    group = tuple(values)
    assert group_reader("m", ["x"] * len(group))(group_text(group)) == group
