"""Texts of Flux, made of literals and of the few building blocks that are listed here.

Flux has no bound parameters outside of InfluxDB's cloud. So what a caller gave reaches a text
through :func:`text`, :func:`time` or :func:`whole` only, which make literals of it; everything
else is a constant of this package. :class:`Flux` keeps the two apart: the blocks take nothing but
it, and a ``str`` raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tailrace.pipeline.event import INT_MAX, INT_MIN

NS_FIRST = INT_MIN + 2
"""The earliest time of a point: 1677-09-21."""
NS_END = INT_MAX
"""One after the latest: 2262-04-11."""
_NS_A_SECOND = 1_000_000_000
_PLAIN = re.compile(r"[A-Za-z0-9 _.,:;/@()\[\]<>=+*?!#&|~^'-]")
_AGGREGATES = ("count", "sum", "min", "max", "first", "last")


class Flux:
    """A piece of Flux that is safe to send."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Flux({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flux) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def joined(pieces: Iterable[Flux], separator: str) -> Flux:
    """Put pieces after each other."""
    return Flux(separator.join([each.text for each in pieces]))


# --- literals: the only way for a caller's values into a text


def text(value: str) -> Flux:
    """Return a string literal.

    Everything but plain ASCII is written as its bytes: no quote, backslash, ``${`` or line
    break can end the literal, whatever a version of the parser takes for one.
    """
    return Flux('"' + "".join(_escaped(char) for char in value) + '"')


def _escaped(char: str) -> str:
    if _PLAIN.fullmatch(char):
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def time(time_ns: int) -> Flux:
    """Return a time literal, exact to the nanosecond.

    Args:
        time_ns: Nanoseconds since 1970; what InfluxDB cannot hold becomes the nearest it can.
    """
    return Flux(f"time(v: {_signed(min(max(time_ns, NS_FIRST), NS_END))})")


def whole(value: int) -> Flux:
    """Return an integer literal."""
    return Flux(_signed(value))


def seconds(value: int) -> Flux:
    """Return a duration literal."""
    return Flux(f"{int(value)}s")


def _signed(value: int) -> str:
    return f"{int(value):d}"


# --- expressions


def column(name: str) -> Flux:
    """Return the column of a row."""
    return Flux(f"r[{text(name).text}]")


def is_one_of(name: str, values: Sequence[str]) -> Flux:
    """Return the condition that a column is one of some texts, of which there is one at least."""
    return any_of([Flux(f"{column(name).text} == {text(each).text}") for each in values])


def is_missing(name: str) -> Flux:
    """Return the condition that a row has no such column."""
    return Flux(f"not exists {column(name).text}")


def any_of(conditions: Sequence[Flux]) -> Flux:
    """Return a disjunction, as a tree: the parser's depth is bounded, a chain's is not."""
    return _tree(conditions, "or")


def all_of(conditions: Sequence[Flux]) -> Flux:
    """Return a conjunction."""
    return _tree(conditions, "and")


def _tree(conditions: Sequence[Flux], operator: str) -> Flux:
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    left, right = _tree(conditions[:half], operator), _tree(conditions[half:], operator)
    return Flux(f"({left.text} {operator} {right.text})")


def names(values: Iterable[str]) -> Flux:
    """Return a list of texts."""
    return Flux(f"[{joined(map(text, values), ', ').text}]")


# --- steps of a pipeline


def source(bucket: str, start_ns: int, end_ns: int) -> Flux:
    """Return a bucket's points of a half-open window; without one, Flux refuses."""
    start, stop = time(start_ns), time(end_ns)
    return Flux(
        f"from(bucket: {text(bucket).text}) |> range(start: {start.text}, stop: {stop.text})"
    )


def where(condition: Flux) -> Flux:
    """Return the step that keeps rows."""
    return Flux(f"filter(fn: (r) => {condition.text})")


def at_times(times_ns: Sequence[int]) -> Flux:
    """Return the step that keeps rows of some instants."""
    listed = joined(map(time, times_ns), ", ")
    return Flux(f"filter(fn: (r) => contains(value: r._time, set: [{listed.text}]))")


def window(width_seconds: int, offset_seconds: int) -> Flux:
    """Return the step that cuts time into windows; empty ones are left out."""
    every, offset = seconds(width_seconds), seconds(offset_seconds)
    return Flux(f"window(every: {every.text}, offset: {offset.text})")


def aggregate(function: str) -> Flux:
    """Return the step that makes one row of each table."""
    if function not in _AGGREGATES:
        raise ValueError(f"{function!r} is none of {', '.join(_AGGREGATES)}")
    return Flux(f"{function}()")


def group(columns: Sequence[str]) -> Flux:
    """Return the step that makes one table of all rows that have these columns alike."""
    return Flux(f"group(columns: {names(columns).text})")


def keep(columns: Sequence[str]) -> Flux:
    """Return the step that leaves only these columns."""
    return Flux(f"keep(columns: {names(columns).text})")


def drop(columns: Sequence[str]) -> Flux:
    """Return the step that leaves all but these columns."""
    return Flux(f"drop(columns: {names(columns).text})")


def first_by_time(count: int, *, descending: bool) -> Flux:
    """Return the steps that keep the first rows of a table by their time."""
    order = "true" if descending else "false"
    return Flux(f'sort(columns: ["_time"], desc: {order}) |> limit(n: {whole(count).text})')


def first_rows(count: int) -> Flux:
    """Return the step that keeps the first rows of each table."""
    return Flux(f"limit(n: {whole(count).text})")


def last_rows(count: int) -> Flux:
    """Return the step that keeps the last rows of each table."""
    return Flux(f"tail(n: {whole(count).text})")


def yields(name: str) -> Flux:
    """Return the step that names a result."""
    return Flux(f"yield(name: {text(name).text})")


def pipeline(*steps: Flux) -> Flux:
    """Return the steps, one feeding the next."""
    for each in steps:
        if not isinstance(each, Flux):
            raise TypeError(f"{each!r:.80} is no Flux; make a literal of it")
    return joined(steps, " |> ")


def program(*statements: Flux) -> str:
    """Return what is sent: statements, one a line."""
    return joined(statements, "\n").text
