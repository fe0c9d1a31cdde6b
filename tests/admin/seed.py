"""Puts events, dead letters and a balanced ledger into the storage of a backend, and reads them.

Works in the test's own process, and in a site's: ``site.python("seed.park(range(3))")``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db import connections

from tailrace.backends import get_backend
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import CAPTURED, DEAD_LETTERED, STORED, Balance, Key

NOW_NS = 1_780_000_000 * 10**9
MINUTE = 1_780_000_000 // 60 * 60


def event(number: int, measurement: str = "checkout", **changes: Any) -> Event:
    """An event that carries a number of its own."""
    fields = {"n": number, "amount": 12.5, **changes.pop("fields", {})}
    tags = {"plan": "pro", **changes.pop("tags", {})}
    return Event(
        measurement,
        changes.pop("time_ns", NOW_NS + number * 1_000_000),
        tags,
        fields,
        id=b"producer00" + number.to_bytes(6, "big"),
        **changes,
    )


def park(
    numbers: Iterable[int],
    measurement: str = "checkout",
    reason: str = "the disk was full",
    shard: int = 0,
    backend: str = "default",
    **changes: Any,
) -> None:
    """Park an event for each number, as a drain does."""
    events = [event(number, measurement, **dict(changes)) for number in numbers]
    letters = [DeadLetter.of_event(one, one.rejected or reason, MINUTE) for one in events]
    park_letters(letters, shard, backend)


def park_letters(letters: list[DeadLetter], shard: int = 0, backend: str = "default") -> None:
    """Park letters, and book what they stand for."""
    storage = get_backend(backend)
    storage.create_checkpoint(Checkpoint(shard))
    with storage.transaction(shard) as tx:
        tx.park(letters)
        amounts: Counter[Key] = Counter()
        for letter in letters:
            for outcome in (CAPTURED, DEAD_LETTERED):
                amounts[letter.minute, letter.measurement, outcome] += letter.events
        tx.book(amounts)


def store(events: list[Event], shard: int = 0, backend: str = "default") -> None:
    """Store events, as a drain does."""
    storage = get_backend(backend)
    storage.create_checkpoint(Checkpoint(shard))
    with storage.transaction(shard) as tx:
        tx.write(events)
        names = Counter(one.measurement for one in events)
        for outcome in (CAPTURED, STORED):
            tx.book({(MINUTE, name, outcome): amount for name, amount in names.items()})


def books(backend: str = "default") -> dict[str, Any]:
    """What is in the storage: the numbers of the stored events, the ledger, the letters."""
    storage = get_backend(backend)
    using = storage.get_db_alias()
    events = apps.get_model("tailrace", "Event").objects.using(using)
    letters = apps.get_model("tailrace", "DeadLetter").objects.using(using).filter(backend=backend)
    balance = Balance.of((outcome, amount) for _, outcome, amount in storage.ledger_totals())
    return {
        "numbers": sorted(fields["n"] for fields in events.values_list("fields", flat=True)),
        "captured": balance.captured,
        "stored": balance.stored,
        "dead_lettered": balance.dead_lettered,
        "dropped": balance.dropped,
        "is_balanced": balance.is_balanced,
        "waiting": letters.filter(replayed_at=None).count(),
        "replayed": letters.exclude(replayed_at=None).count(),
        "attempts": list(letters.order_by("id").values_list("attempts", flat=True)),
        "reasons": list(letters.order_by("id").values_list("reason", flat=True)),
    }


def print_books(backend: str = "default") -> None:
    """Print the books as JSON."""
    print(json.dumps(books(backend)))


def refuse_poison(using: str = "default") -> None:
    """Make the storage refuse events with a field ``poison``."""
    connection = connections[using]
    if connection.vendor == "sqlite":
        statement = (
            "CREATE TRIGGER no_poison BEFORE INSERT ON tailrace_event "
            "WHEN json_extract(NEW.fields, '$.poison') IS NOT NULL "
            "BEGIN SELECT RAISE(ABORT, 'poison is refused'); END"
        )
    else:
        statement = (
            "ALTER TABLE tailrace_event ADD CONSTRAINT no_poison "
            "CHECK ((fields ->> 'poison') IS NULL)"
        )
    with connection.cursor() as cursor:
        cursor.execute(statement)
