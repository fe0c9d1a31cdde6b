"""The log of what has to be computed: ranges, of a source or of one level of a rollup.

A source's log is what writers add to. A refresh moves it to the logs of all levels above that
source at once, so a level never looks right while something is known to be wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.apps import apps

from .ranges import Range, merged

_ROWS_A_STATEMENT = 500


class Entry(NamedTuple):
    """A row of the log."""

    id: int
    owner: str
    range: Range


def source_owner(source_id: int) -> str:
    """Return the owner of what was written into a source too late."""
    return f"source:{source_id}"


def level_owner(level_id: int) -> str:
    """Return the owner of what is to be computed in a level."""
    return f"level:{level_id}"


def unwanted_owner(level_id: int) -> str:
    """Return the owner of what is computed in a level only if somebody asks for it.

    That is what was there before a rollup without data (``WITH_DATA = False``) was declared.
    """
    return f"unwanted:{level_id}"


def owners_of_level(level_id: int, source_id: int) -> tuple[str, str, str]:
    """Return the owners of all that is not right, or not there, in a level."""
    return level_owner(level_id), unwanted_owner(level_id), source_owner(source_id)


def entries(using: str, owners: Iterable[str], limit: int | None = None) -> list[Entry]:
    """Return rows of the log, without locks.

    Args:
        using: The database alias.
        owners: Whose.
        limit: How many at most, the lowest ranges first.
    """
    rows = objects(using).filter(owner__in=list(owners)).order_by("low_us", "id")
    columns = rows.values_list("id", "owner", "low_us", "high_us")
    return [Entry(at, owner, Range(low, high)) for at, owner, low, high in columns[:limit]]


def ranges_of(using: str, owners: Iterable[str]) -> list[Range]:
    """Return what is in the logs of some owners, merged."""
    return merged(entry.range for entry in entries(using, owners))


def add(using: str, owner: str, ranges: Iterable[Range]) -> None:
    """Add ranges to a log, in the transaction that is open."""
    model = _model()
    made = [model(owner=owner, low_us=low, high_us=high) for low, high in ranges]
    objects(using).bulk_create(made, batch_size=_ROWS_A_STATEMENT)


def remove(using: str, ids: Sequence[int]) -> int:
    """Remove rows by id; return how many were still there."""
    removed = 0
    for start in range(0, len(ids), _ROWS_A_STATEMENT):
        chosen = objects(using).filter(id__in=ids[start : start + _ROWS_A_STATEMENT])
        removed += chosen.delete()[0]
    return removed


def objects(using: str) -> Any:
    """Return the log's rows."""
    return _model()._base_manager.using(using)


def _model() -> Any:
    return apps.get_model("tailrace", "RollupInvalidation")
