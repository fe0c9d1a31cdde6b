"""One batch on PostgreSQL: rows by COPY, the books in one round trip at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import psycopg
from django.db import connections

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.errors import BackendMisconfigured, RejectedEvents
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import HighWater, Key

from .model_copy import model_copy
from .model_tables import ModelTable, Row, check_constraints, mismatch_told
from .orm_transaction import OrmTransaction, event_to_json
from .postgres_copy import copy_events
from .statements import statement

Insert = Callable[[psycopg.Connection[Any], Sequence[Event]], None]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_RAISED_BY_A_TRIGGER = "P0001"
_LIMIT_EXCEEDED = "54000"
"""Such as a value too large for an index: SQLSTATE calls it the server's trouble, but the
same row meets the same limit again."""


class CheckpointRow(NamedTuple):
    """A row of ``tailrace_shardcheckpoint``."""

    shard: int
    position: str
    epoch: str
    created_ns: int


class PostgresTransaction(OrmTransaction):
    """Writes by COPY, in the atomic block that its backend has opened.

    Dead letters, ledger, marks and checkpoint wait for :meth:`send_books` and travel together:
    on a network, that is one round trip where the ORM takes six.
    """

    # One COPY a batch: the server writes rows while we pack the next ones.
    rows_a_statement = 1_000_000

    def __init__(self, backend: str, using: str, row: CheckpointRow, insert: Insert) -> None:
        super().__init__(backend, using, row)
        self._insert = insert
        self._pending: list[tuple[str, Any]] = []

    def high_waters(self, producers: Collection[bytes]) -> dict[bytes, HighWater]:
        names = [producer.hex() for producer in producers]
        with self._errors(), psycopg.Cursor(self._psycopg) as cursor:
            cursor.execute(statement("read_marks"), (*self._ours, names))
            return {mark.producer: mark for mark in map(_mark_of, cursor)}

    def insert(self, events: Sequence[Event]) -> None:
        with refusals(), self._errors():
            self._insert(self._psycopg, events)

    def insert_rows(self, table: ModelTable, rows: Sequence[Row]) -> None:
        copy = model_copy(table, self._using) if self._insert is copy_events else None
        with mismatch_told(table, self._using), refusals(), self._errors():
            if copy is None or not copy.fits(self._psycopg):
                super().insert_rows(table, rows)
                return
            copy.write(self._psycopg, rows)
            check_constraints(table, self._using)

    def park(self, letters: Sequence[DeadLetter]) -> None:
        columns = {
            "measurements": [_storable(letter.measurement) for letter in letters],
            "reasons": [_storable(letter.reason) for letter in letters],
            "events": [letter.events for letter in letters],
            "payloads": [_payload(letter.event) for letter in letters],
            "frames": [letter.frame for letter in letters],
            "entry_ids": [letter.entry_id for letter in letters],
            "minutes": [letter.minute for letter in letters],
        }
        self._later("write_letters", columns)

    def book(self, amounts: Mapping[Key, int]) -> None:
        if not amounts:
            return
        # In one order, so that two drainers never wait for each other.
        booked = sorted(
            (minute, _storable(measurement), outcome, amount)
            for (minute, measurement, outcome), amount in amounts.items()
        )
        minutes, measurements, outcomes, numbers = map(list, zip(*booked, strict=True))
        columns = {
            "minutes": minutes,
            "measurements": measurements,
            "outcomes": outcomes,
            "amounts": numbers,
        }
        self._later("write_ledger", columns)

    def advance(self, checkpoint: Checkpoint, high_waters: Sequence[HighWater]) -> None:
        self._later("write_checkpoint", (checkpoint.position, checkpoint.epoch, *self._ours))
        if high_waters:
            columns = {
                "producers": [mark.producer.hex() for mark in high_waters],
                "sequences": [mark.sequence for mark in high_waters],
                "sent": [_json(mark.sent) for mark in high_waters],
                "unsent": [_json(mark.unsent) for mark in high_waters],
                "before": [_json(mark.before) for mark in high_waters],
                "is_last": [mark.is_last for mark in high_waters],
            }
            self._later("write_marks", columns)
        self.checkpoint = checkpoint

    def send_books(self) -> None:
        """Send what :meth:`park`, :meth:`book` and :meth:`advance` were given."""
        pending, self._pending = self._pending, []
        with self._errors(), pipelined(self._psycopg), psycopg.Cursor(self._psycopg) as cursor:
            for name, parameters in pending:
                cursor.execute(statement(name), parameters)

    @property
    def _ours(self) -> tuple[str, int]:
        return self._backend, self.checkpoint.shard

    @property
    def _psycopg(self) -> psycopg.Connection[Any]:
        return connections[self._using].connection

    def _errors(self) -> contextlib.AbstractContextManager[Any]:
        return connections[self._using].wrap_database_errors

    def _later(self, name: str, parameters: Any) -> None:
        if isinstance(parameters, dict):
            parameters["backend"], parameters["shard"] = self._ours
        self._pending.append((name, parameters))


def lock_checkpoint(using: str, backend: str, shard: int) -> CheckpointRow:
    """Lock a shard's checkpoint, as the first statement of the transaction on ``using``.

    Raises:
        BackendMisconfigured: it is gone.
    """
    wrapper = connections[using]
    # BEGIN and SELECT in one round trip.
    with (
        wrapper.wrap_database_errors,
        pipelined(wrapper.connection),
        psycopg.Cursor(wrapper.connection) as cursor,
    ):
        cursor.execute(statement("lock_checkpoint"), (backend, shard))
        row = cursor.fetchone()
    if row is None:
        raise BackendMisconfigured(f"database {using!r}: the checkpoint of shard {shard} is gone")
    return CheckpointRow(*row)


def pipelined(connection: psycopg.Connection[Any]) -> contextlib.AbstractContextManager[Any]:
    """Send statements without waiting for each answer, where libpq is new enough (14)."""
    if psycopg.capabilities.has_pipeline():
        return connection.pipeline()
    return contextlib.nullcontext()


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Tell by SQLSTATE what Django's classes do not: whose fault an error is."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__
        if not isinstance(cause, psycopg.Error):
            raise
        if cause.sqlstate in (_RAISED_BY_A_TRIGGER, _LIMIT_EXCEEDED):
            raise RejectedEvents(str(error)) from error
        if isinstance(cause, psycopg.errors.CheckViolation) and not cause.diag.constraint_name:
            raise BackendMisconfigured(
                f"{str(error).strip()} Partitions are missing, and so is the default partition "
                "that catches such rows; docs/postgres.md says how to make it again."
            ) from error
        raise


def _mark_of(row: tuple[Any, ...]) -> HighWater:
    producer, sequence, sent, unsent, is_last, before = row
    decode = msgspec.json.decode
    return HighWater(
        bytes.fromhex(producer), sequence, decode(sent), decode(unsent), is_last, decode(before)
    )


def _payload(event: Event | None) -> str | None:
    """Return an event as ``jsonb`` holds it, which is any text but the character NUL."""
    if event is None:
        return None
    data = event_to_json(event)
    text = _json(data)
    return _json(_without_nul(data)) if "\\u0000" in text else text


def _without_nul(value: Any) -> Any:
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return _storable(value) if isinstance(value, str) else value


def _storable(text: str) -> str:
    return text.replace("\0", _REPLACEMENT)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
