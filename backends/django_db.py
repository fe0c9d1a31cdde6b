"""Events in any database that Django can use, by ``bulk_create``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Sum
from django.db.utils import IntegrityError

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.errors import BackendMisconfigured

from .base import Transaction
from .dead_letters import OrmDeadLetterLists
from .django_errors import translated_errors
from .orm_transaction import OrmTransaction, checkpoint_of, mark_of
from .private_connection import close_private_connections, private_connection
from .reading.orm import OrmReader
from .readings import OrmReadings
from .retention.orm import OrmRetention
from .rollups.backend import OrmRollups
from .rollups.continuous import OrmContinuous
from .upkeep import fold_ledger, retire_producers

_NO_SHARD: Any = Checkpoint(shard=-1)
"""Stands for the row of a checkpoint where none is moved."""


class DjangoDBBackend(
    OrmReader, OrmReadings, OrmRollups, OrmContinuous, OrmRetention, OrmDeadLetterLists
):
    """Stores events on the database alias that ``OPTIONS["ALIAS"]`` names.

    Run ``manage.py migrate tailrace --database=<alias>`` once, and add
    ``tailrace.django_integration.routers.TelemetryRouter`` to ``DATABASE_ROUTERS`` so that
    nothing else lands there.
    """

    options: ClassVar = {"ALIAS": str}
    transaction_class: ClassVar[type[OrmTransaction]] = OrmTransaction

    def get_db_alias(self) -> str:
        return str(self.given_options.get("ALIAS", "default"))

    def setup(self) -> None:
        """Check the alias.

        Raises:
            ImproperlyConfigured: there is no such alias; the message lists those there are.
        """
        alias = self.get_db_alias()
        if alias not in settings.DATABASES:
            raise ImproperlyConfigured(
                f"TAILRACE['BACKENDS'][{self.alias!r}] wants the database {alias!r}, which is "
                f"not in DATABASES. There are: {', '.join(sorted(settings.DATABASES))}."
            )

    def maintain(self) -> str:
        """Keep the books small."""
        with self._connected():
            rows = self._objects("ShardCheckpoint").filter(backend=self.alias)
            shards = list(rows.values_list("shard", flat=True))
        books = (self._objects, self.transaction)
        producers = sum(retire_producers(self.alias, shard, *books) for shard in shards)
        entries = sum(fold_ledger(self.alias, shard, *books) for shard in shards)
        return f"{producers} producers retired, {entries} ledger entries folded"

    def close(self) -> None:
        """Close this thread's connection; it opens again when it is needed."""
        close_private_connections(self.get_db_alias())

    def read_checkpoint(self, shard: int) -> Checkpoint | None:
        with self._connected():
            row = self._objects("ShardCheckpoint").filter(backend=self.alias, shard=shard).first()
            return checkpoint_of(row) if row else None

    def create_checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._connected():
            try:
                self._objects("ShardCheckpoint").create(
                    backend=self.alias,
                    shard=checkpoint.shard,
                    position=checkpoint.position,
                    epoch=checkpoint.epoch,
                    created_ns=checkpoint.created_ns,
                )
            except IntegrityError:
                return  # another drainer was faster; its row is as good

    def transaction(self, shard: int) -> AbstractContextManager[Transaction]:
        return self._transaction(shard)

    @contextmanager
    def _transaction(self, shard: int) -> Iterator[Transaction]:
        using = self.get_db_alias()
        with self._connected(), transaction.atomic(using=using, durable=True):
            row = (
                self._objects("ShardCheckpoint")
                .select_for_update()
                .filter(backend=self.alias, shard=shard)
                .first()
            )
            if row is None:
                raise BackendMisconfigured(
                    f"database {using!r}: the checkpoint of shard {shard} is gone"
                )
            tx = self.transaction_class(self.alias, using, row)
            yield tx
            tx.finish()

    def backfill_writer(self) -> OrmTransaction:
        """Return what writes events in the transaction that is open, and belongs to no shard."""
        return self.transaction_class(self.alias, self.get_db_alias(), _NO_SHARD)

    def ledger_totals(
        self, start: int | None = None, end: int | None = None
    ) -> Iterable[tuple[str, str, int]]:
        with self._connected():
            rows = self._objects("LedgerEntry").filter(backend=self.alias)
            if start is not None:
                rows = rows.filter(minute__gte=start)
            if end is not None:
                rows = rows.filter(minute__lt=end)
            totals = rows.values_list("measurement", "outcome").annotate(Sum("amount"))
            return list(totals.order_by("measurement", "outcome"))

    def producer_totals(self) -> dict[str, int]:
        totals: Counter[str] = Counter()
        with self._connected():
            rows = self._objects("ProducerMark").filter(backend=self.alias)
            for row in rows.iterator(chunk_size=1000):
                totals.update(mark_of(row).captured())
        return dict(totals)

    def _objects(self, model: str) -> Any:
        return apps.get_model("tailrace", model).objects.using(self.get_db_alias())

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Use our own connection to the alias, and our own errors."""
        using = self.get_db_alias()
        with translated_errors(using), private_connection(using):
            yield
