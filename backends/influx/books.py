"""What the InfluxDB backend keeps in a Django database: books, slots and names.

InfluxDB has no transactions. So points are written and acknowledged first, and the checkpoint,
marks, ledger and dead letters are committed after, here. What the identity of a point depends
on must be committed *before* it is written, or a replay would choose anew: that is
what :meth:`InfluxTransaction.keep` is for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol

from django.db import Error, models, transaction
from django.utils import timezone

from tailrace.backends.base import Transaction
from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.orm_transaction import OrmTransaction, checkpoint_of
from tailrace.pipeline.backfill.contracts import BACKFILL_SHARD
from tailrace.pipeline.errors import (
    BackendMisconfigured,
    TransientBackendError,
)
from tailrace.pipeline.event import Event
from tailrace.pipeline.parked import ParkedLetter

from .identity import Identity, Lanes, Place
from .rows import ROWS_A_QUERY, Name, admitted, placed, tag_values
from .turns import end_turn, keep_turn, take_turn

KEEP_PLACES_DAYS = 30
"""As long as high-water marks: a copy that comes later is taken for new on every backend."""


class Writer(Protocol):
    """What an open transaction asks of the backend that it belongs to."""

    def write(self, tx: InfluxTransaction, events: Sequence[Event]) -> None:
        """Write events to InfluxDB; see :meth:`Transaction.write`."""

    def holds(self, event: Event) -> bool:
        """Return whether InfluxDB has this very event."""


class InfluxTransaction(OrmTransaction):
    """One batch: the points go to InfluxDB, everything else into an atomic block."""

    def __init__(self, backend: str, using: str, row: models.Model, held: _Held) -> None:
        super().__init__(backend, using, row)
        self._held = held
        self._waiting: set[int] = set()
        self._places: dict[Place, tuple[Any, Lanes]] = {}
        self.writer: Writer
        """Set by the backend that opens the transaction."""
        self.identities: dict[bytes, Identity] = {}
        """What events got in this transaction, by event id: halves of a batch get the same."""
        self.is_replay = False
        """Whether what is written are dead letters."""
        self.is_copy = self._row.shard == BACKFILL_SHARD
        """Whether what is written has been read from another storage."""
        self._after_gap: set[bytes] = set()

    def note_gap(self, producer: bytes) -> None:
        self._after_gap.add(producer)

    def write(self, events: Sequence[Event]) -> None:
        if events:
            self.writer.write(self, events)

    def holds(self, event: Event) -> bool:
        return self.writer.holds(event)

    def parked(self, ids: Collection[int]) -> Sequence[ParkedLetter]:
        found = super().parked(ids)
        self.is_replay = True
        self._waiting.update(letter.id for letter in found)
        return found

    def finish(self) -> None:
        """Store what the lanes have come to, with the checkpoint."""
        super().finish()
        self._doubt_other_hours()
        self._store_lanes()
        if self.is_copy:
            end_turn(self._objects("ShardCheckpoint"), self._row)

    def reserve(self) -> None:
        """Of copies, commit the numbers that were given, before a point is written by them.

        A copy that is made again writes only what is missing, so that it would not give the same
        numbers. Those of the drain follow from its checkpoint, and are stored with it.

        Raises:
            TransientBackendError: see :meth:`keep`.
        """
        if self.is_copy:
            self._store_lanes()
            self.keep()

    def _store_lanes(self) -> None:
        changed = []
        for row, lanes in self._places.values():
            if lanes.is_changed:
                row.state, row.updated_at = lanes.state(), timezone.now()
                changed.append(row)
        if changed:
            objects = self._objects("InfluxProducer")
            objects.bulk_update(changed, ["state", "updated_at"], batch_size=ROWS_A_QUERY)

    def keep(self) -> None:
        """Commit what was stored so far, and go on under the lock.

        Raises:
            TransientBackendError: somebody else was here meanwhile; try again.
        """
        before = self._row
        if self.is_copy:
            self._places.clear()  # reserved
            keep_turn(self._objects("ShardCheckpoint"), before)
        self._held.renew()
        row: Any = lock_row(self._objects("ShardCheckpoint"), self._backend, before.shard)
        waiting = set(self._letters(self._waiting).filter(replayed_at=None).values_list("id"))
        if (
            row is None
            or row.updated_at != before.updated_at
            or checkpoint_of(row) != checkpoint_of(before)
            or {letter for (letter,) in waiting} != self._waiting
        ):
            raise TransientBackendError(
                f"shard {before.shard} was worked on by another process; try again"
            )
        self._row = row

    def places(self, wanted: Collection[Place]) -> Mapping[Place, tuple[int, Lanes]]:
        """Return slot and lanes of places; new ones get the smallest slot of their hour.

        Raises:
            TransientBackendError: see :meth:`keep`, which is called where there are new ones.
        """
        while missing := [place for place in wanted if place not in self._places]:
            found, is_new = placed(self._objects("InfluxProducer"), self._backend, missing)
            if is_new:
                self.keep()
                continue
            for place, row in found.items():
                lanes = Lanes(bytes(row.state))
                if place[0] in self._after_gap:
                    lanes.doubt()
                self._places[place] = row, lanes
        return {place: (row.slot, lanes) for place, (row, lanes) in self._places.items()}

    def _doubt_other_hours(self) -> None:
        """Have the events to come of producers with a gap be looked for, whatever their hour."""
        producers = [producer.hex() for producer in self._after_gap]
        rows = self._objects("InfluxProducer").filter(backend=self._backend)
        for start in range(0, len(producers), ROWS_A_QUERY):
            for row in rows.filter(producer__in=producers[start : start + ROWS_A_QUERY]):
                place = bytes.fromhex(row.producer), row.hour
                if place not in self._places:
                    lanes = Lanes(bytes(row.state))
                    lanes.doubt()
                    self._places[place] = row, lanes

    def admit(self, names: Collection[Name], limit: int) -> dict[Name, str | None]:
        """Store names; see :func:`admitted`.

        Raises:
            TransientBackendError: see :meth:`keep`, which is called where there are new ones.
        """
        found, is_new = admitted(self._objects("InfluxName"), self._backend, names, limit)
        if is_new:
            self.keep()
        return found

    def tag_values(self, measurement: str, tag: str) -> list[str]:
        """Return the stored values of a tag."""
        return tag_values(self._objects("InfluxName"), self._backend, measurement, tag)


class InfluxBooks(DjangoDBBackend):
    """The books of one InfluxDB backend, on a Django database alias."""

    def __init__(self, alias: str, using: str) -> None:
        """Take the names of the backend and of the database."""
        super().__init__(alias, {"ALIAS": using})

    @contextmanager
    def _transaction(self, shard: int) -> Iterator[Transaction]:
        using = self.get_db_alias()
        with self._connected():
            held = _Held(using)
            held.open()
            row = None
            try:
                row = self._locked(held, shard)
                if row is None:
                    raise BackendMisconfigured(
                        f"database {using!r}: the checkpoint of shard {shard} is gone"
                    )
                tx = InfluxTransaction(self.alias, using, row, held)
                yield tx
                tx.finish()
            except BaseException as error:
                held.undo(error)
                if row is not None and shard == BACKFILL_SHARD:
                    with suppress(Error):  # or it has to become stale
                        end_turn(self._objects("ShardCheckpoint"), row)
                raise
            held.commit()

    def _locked(self, held: _Held, shard: int) -> Any:
        def lock() -> Any:
            return lock_row(self._objects("ShardCheckpoint"), self.alias, shard)

        return take_turn(lock, held.renew) if shard == BACKFILL_SHARD else lock()

    @contextmanager
    def outside(self) -> Iterator[Callable[[str], Any]]:
        """Open a transaction that belongs to no shard; gives the managers of our models."""
        with self._connected(), transaction.atomic(using=self.get_db_alias(), durable=True):
            yield self._objects

    def forget_places(self) -> int:
        """Delete slots that no replay can ask for any more; return how many.

        The largest slot of an hour stays, so that none is given twice.
        """
        before = timezone.now() - timedelta(days=KEEP_PLACES_DAYS)
        with self._connected():
            rows = self._objects("InfluxProducer").filter(backend=self.alias)
            later = rows.filter(hour=models.OuterRef("hour"), slot__gt=models.OuterRef("slot"))
            old = rows.filter(models.Exists(later), updated_at__lt=before)
            gone = 0
            while keys := list(old.values_list("pk", flat=True)[:ROWS_A_QUERY]):
                gone += rows.filter(pk__in=keys).delete()[0]
            return gone


class _Held:
    """An atomic block that can be committed, and opened again, in the middle."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._block: Any = None

    def open(self) -> None:
        block = transaction.atomic(using=self._using, durable=True)
        block.__enter__()
        self._block = block

    def commit(self) -> None:
        block, self._block = self._block, None
        block.__exit__(None, None, None)

    def renew(self) -> None:
        self.commit()
        self.open()

    def undo(self, error: BaseException) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(type(error), error, error.__traceback__)


def lock_row(objects: Any, backend: str, shard: int) -> Any:
    """Return a shard's checkpoint, locked; ``None`` if there is none."""
    return objects.select_for_update().filter(backend=backend, shard=shard).first()
