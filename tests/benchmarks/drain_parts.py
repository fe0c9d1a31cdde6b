"""What the drain's benchmark is made of: servers, events, frames, tables, and its peers."""

from __future__ import annotations

import os
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import psycopg
import redis
from django.conf import settings
from psycopg.types.json import Jsonb

from tailrace.pipeline.codec import FrameEncoder
from tailrace.pipeline.event import Event
from tailrace.pipeline.producer import Lane

FRAME_EVENTS = 500
PREFIX = "bench"
#: One moment for all rows, so that every run writes the same ones.
START_NS = 1_760_000_000 * 10**9

#: What a production server has; the tests' own server is smaller and does not fsync.
SERVER_OPTIONS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
}
COLUMNS = ("uuid", "timestamptz", "varchar", "varchar", "jsonb", "jsonb")


def raw_events(count: int, seed: int = 1) -> list[tuple[Any, ...]]:
    """Return events as a recorder makes them: requests, queries and an application's own."""
    rng = random.Random(seed)
    makers = (_request, _query, _query, _checkout)
    return [makers[i % 4](rng, i) for i in range(count)]


def _request(rng: random.Random, i: int) -> tuple[Any, ...]:
    tags = {"route": f"api/items/{i % 24}/", "method": "GET", "status": "200"}
    fields = {
        "duration_ms": round(rng.expovariate(0.02), 3),
        "queries": i % 9,
        "bytes": rng.randrange(200, 40_000),
        "user": f"user-{rng.randrange(5000)}",
        "cached": i % 8 == 0,
    }
    return "request", START_NS + i * 10**6, tags, fields, f"{rng.getrandbits(128):032x}"


def _query(rng: random.Random, i: int) -> tuple[Any, ...]:
    tags = {"alias": "default", "operation": "SELECT", "table": f"shop_table{i % 12}"}
    fields = {
        "duration_ms": round(rng.expovariate(0.5), 3),
        "rows": rng.randrange(100),
        "sql": f'SELECT "id", "name" FROM "shop_table{i % 12}" WHERE "id" = %s LIMIT 21',
        "slow": False,
        "duplicates": i % 3,
    }
    return "query", START_NS + i * 10**6, tags, fields, f"{rng.getrandbits(128):032x}"


def _checkout(rng: random.Random, i: int) -> tuple[Any, ...]:
    tags = {"plan": ("free", "pro", "team")[i % 3], "country": f"C{i % 40}", "channel": "web"}
    fields = {
        "amount": round(rng.uniform(1, 500), 2),
        "items": i % 6,
        "coupon": None,
        "currency": "EUR",
        "first": i % 5 == 0,
    }
    return "checkout", START_NS + i * 10**6, tags, fields, None


def frames(events: Sequence[tuple[Any, ...]], shard: int) -> list[bytes]:
    """Return events as one producer sends them into a shard."""
    lane, encoder = Lane(os.urandom(8), shard), FrameEncoder()
    made = []
    for start in range(0, len(events), FRAME_EVENTS):
        some = events[start : start + FRAME_EVENTS]
        header = lane.header(Counter(event[0] for event in some), {})
        made.append(encoder.frame(header, encoder.payload(some)))
    return made


def fill(client: redis.Redis, frames_by_shard: dict[int, list[bytes]]) -> None:
    """Put frames into an empty Redis."""
    client.flushdb()
    for shard, some in frames_by_shard.items():
        pipe = client.pipeline(transaction=False)
        for frame in some:
            pipe.xadd(f"{PREFIX}:{{{shard}}}:stream", {"f": frame})
        pipe.execute()


def configure_django(dsn: str, redis_url: str, backend: str, options: dict[str, Any]) -> None:
    """Set Django up on the database of ``dsn``."""
    import django

    parts = urlsplit(dsn)
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "tailrace.django_integration"],
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path.lstrip("/"),
                "USER": unquote(parts.username or ""),
                "PASSWORD": unquote(parts.password or ""),
                "HOST": parts.hostname or "",
                "PORT": parts.port or "",
            }
        },
        TAILRACE={
            "REDIS_URL": redis_url,
            "KEY_PREFIX": PREFIX,
            "SHARDS": 2,
            "ENABLED": False,
            "BACKENDS": {"default": {"BACKEND": backend, "OPTIONS": options}},
        },
    )
    django.setup()


def empty_tables(connection: psycopg.Connection[Any]) -> None:
    """Empty Tailrace's tables."""
    names = ("event", "shardcheckpoint", "producermark", "ledgerentry", "deadletter")
    connection.execute("TRUNCATE " + ", ".join(f"tailrace_{name}" for name in names))
    connection.execute("CHECKPOINT")


def event_count(connection: psycopg.Connection[Any]) -> int:
    """Count the rows."""
    row = connection.execute("SELECT count(*) FROM tailrace_event").fetchone()
    assert row is not None
    return int(row[0])


# --- the peers; each writes the same rows into the same table


def structs(events: Sequence[tuple[Any, ...]]) -> list[Event]:
    """Return events as a drain sees them."""
    return [Event(*event, id=uuid.uuid4().bytes) for event in events]


def python_rows(events: Sequence[Event]) -> list[tuple[Any, ...]]:
    """Return rows as psycopg takes them, with nothing left to do but to write them."""
    encode = msgspec.json.encode
    return [
        (
            event.uuid,
            event.time,
            event.measurement,
            event.trace_id or "",
            Jsonb(event.tags, encode),
            Jsonb(event.fields, encode),
        )
        for event in events
    ]


_COPY = (
    "COPY tailrace_event (uid, time, measurement, trace_id, tags, fields) "
    "FROM STDIN (FORMAT binary)"
)


def copy_rows(connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    """Bare binary COPY by psycopg's ``write_row``, in one transaction."""
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(COLUMNS)
        for row in rows:
            copy.write_row(row)


def copy_buffers(connection: psycopg.Connection[Any], buffers: Sequence[bytes]) -> None:
    """Bare binary COPY of bytes that are ready: nothing but the server's work is left."""
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for buffer in buffers:
            copy.write(buffer)


def bulk_create(events: Sequence[Event], batch: int = 10_000) -> None:
    """Django's fastest, a transaction for each ``batch`` rows, model objects included."""
    from django.apps import apps

    model = apps.get_model("tailrace", "Event")
    for start in range(0, len(events), batch):
        model.objects.bulk_create(
            [
                model(
                    uid=event.uuid,
                    measurement=event.measurement,
                    time=event.time,
                    tags=event.tags,
                    fields=event.fields,
                    trace_id=event.trace_id or "",
                )
                for event in events[start : start + batch]
            ]
        )


def without_books(alias: str = "default") -> Any:
    """Return a backend that writes the same rows, and keeps no checkpoint, marks or ledger."""
    from django.db import transaction

    from tailrace.backends.postgres import PostgresBackend
    from tailrace.backends.postgres_transaction import CheckpointRow, PostgresTransaction
    from tailrace.pipeline.checkpoint import Checkpoint

    kept: dict[int, Checkpoint] = {}

    class BareTransaction(PostgresTransaction):
        def high_waters(self, producers: Any) -> dict[bytes, Any]:
            return {}

        def book(self, amounts: Any) -> None:
            return None

        def advance(self, checkpoint: Any, high_waters: Any) -> None:
            kept[checkpoint.shard] = checkpoint

        def finish(self) -> None:
            return None

    class BareBackend(PostgresBackend):
        def read_checkpoint(self, shard: int) -> Checkpoint | None:
            return kept.get(shard)

        def create_checkpoint(self, checkpoint: Checkpoint) -> None:
            kept[checkpoint.shard] = checkpoint

        @contextmanager
        def _transaction(self, shard: int) -> Iterator[Any]:
            at = kept[shard]
            row = CheckpointRow(at.shard, at.position, at.epoch, at.created_ns)
            with self._connected():
                insert = self._prepare()
                with transaction.atomic(using=alias, durable=True):
                    yield BareTransaction(self.alias, alias, row, insert)

    backend = BareBackend("default", {"ALIAS": alias})
    backend.setup()
    return backend
