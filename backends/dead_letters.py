"""Dead letters in any database that Django can use: listed, counted, opened and marked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from django.db.models import Count, F, QuerySet, Sum
from django.utils import timezone

from tailrace.pipeline.dead_letter import REASON_MAX_CHARS, DeadLetter
from tailrace.pipeline.event import INT_MAX, Event
from tailrace.pipeline.parked import (
    LIST_LETTERS,
    LetterCount,
    LetterSelection,
    ListedLetter,
    ParkedLetter,
)

from .base import BaseBackend, Transaction

_LISTED = ("id", "shard", "measurement", "reason", "events", "attempts", "replayed_at")


class OrmDeadLetters(Transaction):
    """What a transaction on any Django database does for a replay."""

    _backend: str

    def _objects(self, model: str) -> Any:
        raise NotImplementedError

    def parked(self, ids: Collection[int]) -> Sequence[ParkedLetter]:
        rows = self._letters(ids).filter(replayed_at=None).order_by("id").select_for_update()
        return [ParkedLetter(row.id, letter_of(row)) for row in rows]

    def settle(self, replayed: Collection[int], refused: Mapping[int, str]) -> None:
        self._letters(replayed).update(replayed_at=timezone.now())
        for letter, reason in refused.items():
            self._letters([letter]).update(
                attempts=F("attempts") + 1, reason=reason[:REASON_MAX_CHARS]
            )

    def holds(self, event: Event) -> bool:
        # The id has no index; measurement and time have one, and few events share both.
        rows = self._objects("Event").filter(measurement=event.measurement, time=event.time)
        return bool(rows.filter(uid=event.uuid).exists())

    def booked(self, measurement: str, outcome: str) -> int:
        rows = self._objects("LedgerEntry").filter(
            backend=self._backend,
            shard=self.checkpoint.shard,
            measurement=measurement,
            outcome=outcome,
        )
        return rows.aggregate(total=Sum("amount"))["total"] or 0

    def _letters(self, ids: Collection[int]) -> Any:
        return self._objects("DeadLetter").filter(
            pk__in=list(ids), backend=self._backend, shard=self.checkpoint.shard
        )


class OrmDeadLetterLists(BaseBackend):
    """What a backend on any Django database tells about its dead letters."""

    def _objects(self, model: str) -> Any:
        raise NotImplementedError

    def _connected(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def dead_letters(
        self, selection: LetterSelection, after_id: int = 0, limit: int = LIST_LETTERS
    ) -> Sequence[ListedLetter]:
        with self._connected():
            rows = self._selected(selection).filter(id__gt=after_id).order_by("id")
            return [_listed(row) for row in rows.values(*_LISTED)[:limit]]

    def dead_letter_counts(self) -> Sequence[LetterCount]:
        with self._connected():
            rows = self._selected(LetterSelection()).values_list("measurement", "reason")
            counted = rows.annotate(letters=Count("id"), total=Sum("events"))
            return [LetterCount(*row) for row in counted.order_by("-letters", "measurement")]

    def _selected(self, selection: LetterSelection) -> QuerySet[Any]:
        rows = self._objects("DeadLetter").filter(backend=self.alias)
        if selection.ids is not None:
            # Others can be nobody's, and SQLite's driver raises for them.
            rows = rows.filter(id__in=[one for one in selection.ids if one <= INT_MAX])
        if selection.measurement is not None:
            rows = rows.filter(measurement=selection.measurement)
        if selection.reason is not None:
            rows = rows.filter(reason__contains=selection.reason)
        if selection.only_waiting:
            rows = rows.filter(replayed_at=None)
        return rows


def letter_of(row: Any) -> DeadLetter:
    """Return a row of ``DeadLetter`` as the value it stands for."""
    return DeadLetter(
        measurement=row.measurement,
        reason=row.reason,
        event=event_from_json(row.payload) if row.payload is not None else None,
        frame=bytes(row.frame) if row.frame is not None else None,
        events=row.events,
        entry_id=row.entry_id,
        minute=row.minute,
    )


def event_to_json(event: Event) -> dict[str, Any]:
    """Return an event as JSON can hold it, without loss."""
    data = msgspec.structs.asdict(event)
    data["id"] = event.id.hex()
    return data


def event_from_json(data: Mapping[str, Any]) -> Event:
    """Undo :func:`event_to_json`."""
    return Event(**{**data, "id": bytes.fromhex(data["id"])})


def _listed(row: dict[str, Any]) -> ListedLetter:
    replayed_at = row.pop("replayed_at")
    return ListedLetter(**row, is_replayed=replayed_at is not None)
