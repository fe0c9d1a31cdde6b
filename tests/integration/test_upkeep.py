"""Old books are folded, and say the same afterwards."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone

from tailrace.backends.database import DatabaseBackend
from tailrace.backends.upkeep import RETIRED_PRODUCER
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.ledger import CAPTURED, STORED, HighWater

DAY_SECONDS = 86_400


@pytest.fixture
def backend(transactional_db: None) -> DatabaseBackend:
    made = DatabaseBackend("default", {})
    made.create_checkpoint(Checkpoint(0))
    return made


def _store(backend: DatabaseBackend, minute: int, producer: int, amount: int) -> None:
    mark = HighWater(producer.to_bytes(10, "big"), 5, {"request": amount}, {}, is_last=True)
    with backend.transaction(0) as tx:
        tx.high_waters([mark.producer])
        for outcome in (CAPTURED, STORED):
            tx.book({(minute, "request", outcome): amount})
        tx.advance(tx.checkpoint, [mark])


def _rows(model: str) -> Any:
    return apps.get_model("tailrace", model).objects


def test_upkeep_changes_no_total(backend: DatabaseBackend) -> None:
    now = int(time.time()) // 3600 * 3600
    for number in range(1, 200):
        _store(backend, now - 10 * DAY_SECONDS + number * 60, number, number)
    _store(backend, now, 999, 7)
    old = timezone.now() - timedelta(days=31)
    _rows("ProducerMark").exclude(producer=(999).to_bytes(10, "big").hex()).update(updated_at=old)
    before = backend.ledger_totals(), backend.producer_totals()
    entries = _rows("LedgerEntry").count()
    assert backend.maintain().startswith("199 producers retired")
    assert (backend.ledger_totals(), backend.producer_totals()) == before
    assert _rows("LedgerEntry").count() < entries / 20
    assert set(_rows("ProducerMark").values_list("producer", flat=True)) == {
        RETIRED_PRODUCER,
        (999).to_bytes(10, "big").hex(),
    }


def test_upkeep_is_idempotent_and_folds_what_comes_late(backend: DatabaseBackend) -> None:
    minute = int(time.time()) // 3600 * 3600 - 10 * DAY_SECONDS
    _store(backend, minute + 60, 1, 5)
    backend.maintain()
    _store(backend, minute + 120, 2, 6)  # a dead letter of that hour is replayed
    assert backend.maintain() == "0 producers retired, 2 ledger entries folded"
    assert backend.maintain() == "0 producers retired, 0 ledger entries folded"
    totals = {outcome: amount for _, outcome, amount in backend.ledger_totals()}
    assert totals == {CAPTURED: 11, STORED: 11}
