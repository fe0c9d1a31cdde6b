"""Comparing answers from rollups with those from rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tailrace.backends.reading.query import AggregateQuery
from tailrace.backends.testing.reading_oracle import assert_same


def assert_close(
    found: Any, right: Any, asked: AggregateQuery, values: Iterable[Any], context: object
) -> None:
    """Check that an answer is that from rows; percentiles within 1 % of the largest value.

    Args:
        found: The answer.
        right: The one from rows.
        asked: The question.
        values: All values that there are, of any type.
        context: Shown when they differ.
    """
    numbers = [abs(float(each)) for each in values if type(each) in (int, float)]
    if asked.percent is None:
        assert_same(found, right, sum(numbers), context)
        return
    message = f"{context}:\nanswered {found}\nright is {right}"
    if isinstance(right, dict):
        found, right = [found], [right]
    assert [_place(row) for row in found] == [_place(row) for row in right], message
    for one, other in zip(found, right, strict=True):
        ours, theirs = one["result"], other["result"]
        assert type(ours) is type(theirs), message
        if isinstance(theirs, float):
            # Where the two ranks have different signs, both bring their error with them.
            room = 0.01 * max([*numbers, abs(theirs)]) if _has_both_signs(values) else 0.0
            assert math.isclose(ours, theirs, rel_tol=0.01, abs_tol=room), message
        else:
            assert ours == theirs, message


def _has_both_signs(values: Iterable[Any]) -> bool:
    numbers = [each for each in values if type(each) in (int, float)]
    return any(each < 0 for each in numbers) and any(each > 0 for each in numbers)


def _place(row: dict[str, Any]) -> dict[str, Any]:
    place = {name: value for name, value in row.items() if name != "result"}
    if place.get("bucket") is not None:
        place["bucket"] = place["bucket"].isoformat()
    return place
