"""Showing a value that was refused: short, fast, and without running anybody's code.

What was refused may be a string of 100 MB, a list with one in it, an object whose ``repr``
raises, or a lazy one that asks the database for its ``repr``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

from .event import INT_MAX, INT_MIN

SHOWN_CHARS = 200
_ITEMS = 20
_DEPTH = 3

_PLAIN = (bool, float, complex, type(None), datetime, date, time, timedelta, Decimal, UUID)
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
}


def show(value: Any, max_chars: int = SHOWN_CHARS) -> str:
    """Return what a person needs to recognise ``value``; never raises.

    Args:
        value: Anything.
        max_chars: Length of the result, roughly; three dots stand for what is left out.
    """
    return _show(value, max_chars, _DEPTH)[: max_chars + 3]


def show_error(error: BaseException) -> str:
    """Return an exception's class and message; never raises."""
    try:
        return f"{type(error).__name__}: {str(error)[:SHOWN_CHARS]}"
    except Exception:  # noqa: BLE001 - somebody else's __str__ may raise anything
        return type(error).__name__


def _show(value: Any, room: int, depth: int) -> str:
    kind = type(value)
    if kind in (str, bytes):
        return repr(value[:room]) + ("..." if len(value) > room else "")
    if kind is int:
        if INT_MIN <= value <= INT_MAX:
            return repr(value)
        return f"an integer of {value.bit_length()} bits"
    if kind in _PLAIN:
        return repr(value)
    if kind is dict:
        return _show_mapping(value, room, depth)
    if kind in _BRACKETS:
        opening, closing = _BRACKETS[kind]
        items = _show_items(value, lambda item: _show(item, room, depth - 1), room, depth)
        return opening + items + closing
    # Its repr would run code that is not ours, which may raise, block or query a database.
    return f"<{kind.__module__}.{kind.__qualname__}>"


def _show_mapping(mapping: Mapping[Any, Any], room: int, depth: int) -> str:
    def show_pair(pair: tuple[Any, Any]) -> str:
        return f"{_show(pair[0], 100, depth - 1)}: {_show(pair[1], room // 4, depth - 1)}"

    return f"{{{_show_items(mapping.items(), show_pair, room, depth)}}}"


def _show_items(
    items: Iterable[Any], show_item: Callable[[Any], str], room: int, depth: int
) -> str:
    if depth <= 0:
        return "..."
    shown: list[str] = []
    for item in islice(items, _ITEMS + 1):
        if len(shown) == _ITEMS or room <= 0:
            shown.append("...")
            break
        shown.append(show_item(item))
        room -= len(shown[-1])
    return ", ".join(shown)
