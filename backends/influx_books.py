"""What the InfluxDB backend keeps in a Django database: books, slots and names.

InfluxDB has no transactions. So points are written and acknowledged first, and the checkpoint,
marks, ledger and dead letters are committed after, here. What the identity of a point depends
on must be committed *before* it is written, or a replay would choose anew: that is
what :meth:`InfluxTransaction.keep` is for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

from django.db import models, transaction
from django.utils import timezone

from tailrace.pipeline.errors import (
    BackendMisconfigured,
    TransientBackendError,
)
from tailrace.pipeline.event import Event
from tailrace.pipeline.parked import ParkedLetter

from .base import Transaction
from .django_db import DjangoDBBackend
from .influx_identity import Identity, Lanes, Place
from .orm_transaction import OrmTransaction, checkpoint_of

_ROWS_A_QUERY = 500
_ALLOCATION_ATTEMPTS = 10
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
KEEP_PLACES_DAYS = 30
"""As long as high-water marks: a copy that comes later is taken for new on every backend."""

Name = tuple[str, str, str, str]
"""Kind (``tag`` or ``field``), measurement, name and value."""


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
        changed = []
        for row, lanes in self._places.values():
            if lanes.is_changed:
                row.state, row.updated_at = lanes.state(), timezone.now()
                changed.append(row)
        if changed:
            objects = self._objects("InfluxProducer")
            objects.bulk_update(changed, ["state", "updated_at"], batch_size=_ROWS_A_QUERY)

    def keep(self) -> None:
        """Commit what was stored so far, and go on under the lock.

        Raises:
            TransientBackendError: somebody else was here meanwhile; try again.
        """
        before = self._row
        self._held.commit()
        self._held.open()
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
        missing = [place for place in wanted if place not in self._places]
        if missing:
            objects = self._objects("InfluxProducer")
            found, is_new = placed(objects, self._backend, missing)
            if is_new:
                self.keep()
            for place, row in found.items():
                self._places[place] = row, Lanes(bytes(row.state))
        return {place: (row.slot, lanes) for place, (row, lanes) in self._places.items()}

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
            try:
                row = lock_row(self._objects("ShardCheckpoint"), self.alias, shard)
                if row is None:
                    raise BackendMisconfigured(
                        f"database {using!r}: the checkpoint of shard {shard} is gone"
                    )
                tx = InfluxTransaction(self.alias, using, row, held)
                yield tx
                tx.finish()
            except BaseException as error:
                held.undo(error)
                raise
            held.commit()

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
            while keys := list(old.values_list("pk", flat=True)[:_ROWS_A_QUERY]):
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

    def undo(self, error: BaseException) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(type(error), error, error.__traceback__)


def lock_row(objects: Any, backend: str, shard: int) -> Any:
    """Return a shard's checkpoint, locked; ``None`` if there is none."""
    return objects.select_for_update().filter(backend=backend, shard=shard).first()


def placed(objects: Any, backend: str, places: Sequence[Place]) -> tuple[dict[Place, Any], bool]:
    """Return the rows of places, made where there are none.

    Returns:
        The rows, and whether some are new and have to be committed.
    """
    found: dict[Place, Any] = {}
    for attempt in range(_ALLOCATION_ATTEMPTS):
        missing = sorted((place for place in places if place not in found), key=_by_hour)
        found.update(_placed(objects, backend, missing))
        missing = [place for place in missing if place not in found]
        if not missing:
            return found, attempt > 0
        rows = objects.filter(backend=backend, hour__in={hour for _, hour in missing})
        largest = dict(rows.values_list("hour").annotate(models.Max("slot")).order_by())
        fresh = []
        for producer, hour in missing:
            slot = largest[hour] = largest.get(hour, -1) + 1
            fresh.append(
                objects.model(backend=backend, hour=hour, producer=producer.hex(), slot=slot)
            )
        # Drainers of other shards may want the same slot: whoever lost it asks again.
        objects.bulk_create(fresh, ignore_conflicts=True, batch_size=_ROWS_A_QUERY)
    raise TransientBackendError("too many drainers want slots in the same hour; try again")


def _placed(objects: Any, backend: str, places: Sequence[Place]) -> dict[Place, Any]:
    wanted = set(places)
    found = {}
    hours = sorted({hour for _, hour in places})
    producers = sorted({producer.hex() for producer, _ in places})
    for first in range(0, len(hours), _ROWS_A_QUERY):
        for start in range(0, len(producers), _ROWS_A_QUERY):
            rows = objects.filter(
                backend=backend,
                hour__in=hours[first : first + _ROWS_A_QUERY],
                producer__in=producers[start : start + _ROWS_A_QUERY],
            )
            for row in rows:
                place = bytes.fromhex(row.producer), row.hour
                if place in wanted:
                    found[place] = row
    return found


def _by_hour(place: Place) -> tuple[int, bytes]:
    return place[1], place[0]


def admitted(
    objects: Any, backend: str, names: Collection[Name], limit: int
) -> tuple[dict[Name, str | None], bool]:
    """Store names that are new, unless there are too many of their sort.

    Args:
        objects: The manager of ``InfluxName``.
        backend: Whose names.
        names: In the order in which they came. Of a field, only the first type is stored.
        limit: How many values one tag may have.

    Returns:
        What is stored under each name, and whether some are new and have to be committed.
    """
    by_digest: dict[str, Name] = {}
    for each in names:
        by_digest.setdefault(_digest(backend, each), each)
    stored = _stored(objects, by_digest)
    counts: dict[tuple[str, str], int] = {}
    fresh = []
    for digest, (kind, measurement, name, value) in by_digest.items():
        if digest in stored:
            continue
        if kind == "tag":
            key = measurement, name
            if key not in counts:
                rows = objects.filter(backend=backend, kind=kind, name=_without_nul(name))
                counts[key] = rows.filter(measurement=_without_nul(measurement)).count()
            if counts[key] >= limit:
                continue
            counts[key] += 1
        fresh.append(
            objects.model(
                digest=digest,
                backend=backend,
                kind=kind,
                measurement=_without_nul(measurement),
                name=_without_nul(name),
                value=_without_nul(value),
            )
        )
    if fresh:
        objects.bulk_create(fresh, ignore_conflicts=True, batch_size=_ROWS_A_QUERY)
        stored = _stored(objects, by_digest)
    return {name: stored.get(_digest(backend, name)) for name in names}, bool(fresh)


def tag_values(objects: Any, backend: str, measurement: str, tag: str) -> list[str]:
    """Return the stored values of a tag."""
    rows = objects.filter(backend=backend, kind="tag", name=_without_nul(tag))
    rows = rows.filter(measurement=_without_nul(measurement))
    return list(rows.values_list("value", flat=True))


def _stored(objects: Any, digests: Collection[str]) -> dict[str, str]:
    wanted = sorted(digests)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), _ROWS_A_QUERY):
        rows = objects.filter(digest__in=wanted[start : start + _ROWS_A_QUERY])
        found.update(rows.values_list("digest", "value"))
    return found


def _digest(backend: str, name: Name) -> str:
    """Return what a name is unique by: of a field, its type is not part of it."""
    kind, measurement, own, value = name
    parts = [backend, kind, measurement, own, *([value] if kind == "tag" else [])]
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _without_nul(text: str) -> str:
    """Return text as every database can hold it; the digest tells the names apart."""
    return text.replace("\0", _REPLACEMENT)
