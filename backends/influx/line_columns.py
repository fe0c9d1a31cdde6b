"""Values of fields as they stand in line protocol, a column at a time.

One look tells that none of a thousand texts has a quote, and one call of a JSON encoder writes a
thousand numbers: an order of magnitude cheaper than ``repr()`` and ``str()``, and as exact.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tailrace.pipeline.event import INT_MAX, INT_MIN

from .layout import encode_text

Refuse = Callable[[int, str], None]
"""Takes a value's place in its column, and what is wrong with it."""

BEFORE = {float: "=", int: "=", bool: "=", str: '="'}
AFTER = {float: "", int: "i", bool: "", str: '"'}
"""What stands around a value, by its type."""

_json = msgspec.json.Encoder().encode


def escape_text(text: str) -> str:
    """Return a string field's value as it stands between its quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def number_texts(column: Sequence[float | bool]) -> list[str]:
    """Return numbers of up to 64 bits, or booleans, as JSON has them; a NaN is ``null``.

    Args:
        column: At least one.
    """
    return _json(column)[1:-1].decode().split(",")


def column_texts(kind: type, column: Sequence[Any], refuse: Refuse) -> Sequence[str]:
    """Return the text of each value.

    Args:
        kind: The type of all values, one of those in ``BEFORE``.
        column: The values, at least one.
        refuse: Called for each that InfluxDB cannot store; any text is returned for those.
    """
    if kind is str:
        return _texts(column, refuse)
    if kind is int:
        return number_texts(_of_64_bits(column, refuse))
    texts = number_texts(column)
    if kind is float and "null" in texts:
        _refuse_others(column, math.isfinite, "a float that is not finite", refuse)
    return texts


def _of_64_bits(column: Sequence[int], refuse: Refuse) -> Sequence[int]:
    try:
        array("q", column)
    except OverflowError:
        _refuse_others(column, _fits, "an integer that does not fit 64 bits", refuse)
        return [value if _fits(value) else 0 for value in column]
    return column


def _texts(column: Sequence[str], refuse: Refuse) -> Sequence[str]:
    together = "".join(column)
    if not together.isascii() and not _is_unicode(together):
        _refuse_others(column, _is_unicode, "text that is no Unicode", refuse)
    if "~" in together or "\r" in together or not all(column):
        column = [encode_text(text) for text in column]
    if '"' in together or "\\" in together:
        column = [escape_text(text) for text in column]
    return column


def _refuse_others(
    column: Sequence[Any], is_good: Callable[[Any], bool], what: str, refuse: Refuse
) -> None:
    for number, value in enumerate(column):
        if not is_good(value):
            refuse(number, f"it has {what}, which InfluxDB cannot store")


def _fits(value: int) -> bool:
    return INT_MIN <= value <= INT_MAX


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
