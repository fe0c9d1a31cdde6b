"""One batch on any Django database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from django.apps import apps
from django.db import models, transaction

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.event import Event
from tailrace.pipeline.faults import fault
from tailrace.pipeline.ledger import HighWater, Key

from .dead_letters import OrmDeadLetters, event_to_json
from .django_errors import translated_rejections
from .exception_groups import update_exception_groups
from .model_keys import latest_by_device, update_last_seen
from .model_tables import (
    ModelTable,
    Row,
    holds_row,
    insert_rows,
    rows_by_table,
)
from .rollups.invalidation import Written
from .written_models import written_models

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class OrmTransaction(OrmDeadLetters):
    """Writes by ``bulk_create``, in the atomic block that its backend has opened."""

    rows_a_statement: ClassVar[int] = 2_000

    def __init__(self, backend: str, using: str, row: models.Model) -> None:
        self._backend = backend
        self._using = using
        self._row: Any = row
        self._marks: dict[bytes, Any] = {}
        self._seen: dict[ModelTable, dict[Any, datetime]] = {}
        self._written = Written(using)
        self.checkpoint = checkpoint_of(row)

    def high_waters(self, producers: Collection[bytes]) -> dict[bytes, HighWater]:
        rows = self._objects("ProducerMark").filter(
            backend=self._backend,
            shard=self.checkpoint.shard,
            producer__in=[producer.hex() for producer in producers],
        )
        self._marks = {bytes.fromhex(row.producer): row for row in rows}
        return {producer: mark_of(row) for producer, row in self._marks.items()}

    def write(self, events: Sequence[Event]) -> None:
        plain, rows = self._sorted(events)
        # A savepoint: after a refusal, the transaction must be able to go on.
        with translated_rejections(), transaction.atomic(using=self._using):
            for start in range(0, len(plain), self.rows_a_statement):
                self.insert(plain[start : start + self.rows_a_statement])
                fault("mid_write")
            update_exception_groups(self._using, plain)
            for table, listed in rows.items():
                self.insert_rows(table, listed)
                fault("mid_write")
        self._written.add(plain, rows)
        for table, listed in rows.items():
            for device, seen in latest_by_device(table, listed).items():
                known = self._seen.setdefault(table, {})
                known[device] = max(seen, known.get(device, seen))

    def insert(self, events: Sequence[Event]) -> None:
        """Insert rows; backends that know a faster way override this."""
        objects = self._objects("Event")
        objects.bulk_create([_event_row(objects.model, event) for event in events])

    def insert_rows(self, table: ModelTable, rows: Sequence[Row]) -> None:
        """Insert rows of a host's model; backends that know a faster way override this."""
        insert_rows(table, rows, self._using)

    def holds(self, event: Event) -> bool:
        model = written_models().get(event.measurement)
        return super().holds(event) if model is None else holds_row(model, event, self._using)

    def finish(self) -> None:
        """Do what is best done at the very end, just before the commit.

        Devices are locked when they are updated, and other drainers want the same ones.
        """
        seen, self._seen = self._seen, {}
        for table, latest in seen.items():
            assert table.device_place is not None, "only readings have devices"
            update_last_seen(table.fields[table.device_place], latest)
        self.send_books()
        # Refreshes of rollups wait for us from here on.
        self._written.note()

    def send_books(self) -> None:
        """Write what waited for the end of the batch; backends that let it wait override this."""

    def park(self, letters: Sequence[DeadLetter]) -> None:
        objects = self._objects("DeadLetter")
        objects.bulk_create([self._letter_row(objects.model, letter) for letter in letters])

    def book(self, amounts: Mapping[Key, int]) -> None:
        if not amounts:
            return
        objects = self._objects("LedgerEntry")
        # Nobody else touches this shard's entries while we hold its checkpoint.
        existing = {
            (row.minute, row.measurement, row.outcome): row
            for row in objects.filter(
                backend=self._backend,
                shard=self.checkpoint.shard,
                minute__in={minute for minute, _, _ in amounts},
                measurement__in={measurement for _, measurement, _ in amounts},
            )
        }
        fresh = []
        for key, amount in amounts.items():
            if key in existing:
                existing[key].amount += amount
            else:
                fresh.append(self._ledger_row(objects.model, key, amount))
        objects.bulk_create(fresh)
        changed = [existing[key] for key in amounts if key in existing]
        if changed:
            objects.bulk_update(changed, ["amount"])

    def advance(self, checkpoint: Checkpoint, high_waters: Sequence[HighWater]) -> None:
        row = self._row
        row.position, row.epoch = checkpoint.position, checkpoint.epoch
        row.save(using=self._using)
        objects = self._objects("ProducerMark")
        fresh: list[Any] = []
        changed: list[Any] = []
        for mark in high_waters:
            known = self._marks.get(mark.producer)
            target = changed if known else fresh
            target.append(self._mark_row(objects.model, mark, known))
        objects.bulk_create(fresh)
        if changed:
            objects.bulk_update(changed, ["sequence", "sent", "unsent", "is_last", "updated_at"])
        self.checkpoint = checkpoint

    def _sorted(self, events: Sequence[Event]) -> tuple[Sequence[Event], dict[ModelTable, Any]]:
        """Sort out what goes into tables of the host's models."""
        written = written_models()
        if written.keys().isdisjoint({event.measurement for event in events}):
            return events, {}
        return rows_by_table(events, written, self._using)

    def _objects(self, model: str) -> Any:
        return apps.get_model("tailrace", model).objects.using(self._using)

    def _ledger_row(self, model: Any, key: Key, amount: int) -> Any:
        minute, measurement, outcome = key
        return model(
            backend=self._backend,
            shard=self.checkpoint.shard,
            minute=minute,
            measurement=measurement,
            outcome=outcome,
            amount=amount,
        )

    def _mark_row(self, model: Any, mark: HighWater, known: Any) -> Any:
        row = known or model(
            backend=self._backend, shard=self.checkpoint.shard, producer=mark.producer.hex()
        )
        row.sequence = mark.sequence
        row.sent, row.unsent, row.is_last = mark.sent, mark.unsent, mark.is_last
        row.before = mark.before
        # bulk_update calls no pre_save, which is where auto_now works.
        row.updated_at = self._row.updated_at
        return row

    def _letter_row(self, model: Any, letter: DeadLetter) -> Any:
        return model(
            backend=self._backend,
            shard=self.checkpoint.shard,
            measurement=_without_nul(letter.measurement),
            reason=_without_nul(letter.reason),
            events=letter.events,
            payload=_without_nul(event_to_json(letter.event)) if letter.event else None,
            frame=letter.frame,
            entry_id=letter.entry_id,
            minute=letter.minute,
        )


def checkpoint_of(row: Any) -> Checkpoint:
    """Return a row of ``ShardCheckpoint`` as the value it stands for."""
    return Checkpoint(row.shard, row.position, row.epoch, row.created_ns)


def mark_of(row: Any) -> HighWater:
    """Return a row of ``ProducerMark`` as the value it stands for."""
    return HighWater(
        bytes.fromhex(row.producer), row.sequence, row.sent, row.unsent, row.is_last, row.before
    )


def _without_nul(value: Any) -> Any:
    """Return a value as every database can hold it: PostgreSQL has no NUL in text or JSON.

    A dead letter must find a place whatever is in it, or it would hold up its shard for good.
    """
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value.replace("\0", _REPLACEMENT) if isinstance(value, str) else value


def _event_row(model: Any, event: Event) -> Any:
    return model(
        uid=event.uuid,
        measurement=event.measurement,
        time=event.time,
        tags=event.tags,
        fields=event.fields,
        trace_id=event.trace_id or "",
    )
