"""What one transaction of a drain takes, and how it books what it takes."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.backends.memory import MemoryBackend
from tailrace.backends.testing import MemoryStream
from tailrace.backends.testing.frames import EVENT_TIME_NS
from tailrace.pipeline.config import BackendConfig, Config
from tailrace.pipeline.drain import Drain
from tailrace.pipeline.producer import Producer

CONFIG = Config(backends={"default": BackendConfig()}, shards=1, drain_batch_events=1_000)


class Counting(MemoryBackend):
    """Counts its transactions."""

    transactions = 0

    def transaction(self, shard: int) -> Any:
        self.transactions += 1
        return super().transaction(shard)


def send(stream: MemoryStream, producer: Producer, wires: list[tuple[Any, ...]]) -> None:
    payload = producer.payload(wires)
    stream.send(0, [producer.frame(0, [wire[0] for wire in wires], payload)[1]])


def wire(measurement: str, rejected: str | None = None) -> tuple[Any, ...]:
    return (measurement, EVENT_TIME_NS, {}, {"amount": 1}, None, rejected)


@pytest.mark.parametrize(("factor", "transactions"), [(1, 3), (2, 2), (3, 1)])
def test_a_transaction_has_as_many_batches_as_its_backend_wants(
    factor: int, transactions: int
) -> None:
    # 32 frames are read at once.
    stream, producer = MemoryStream(CONFIG), Producer(1, {})
    for _ in range(96):
        send(stream, producer, [wire("checkout")] * 32)
    backend = Counting("default", {})
    backend.batch_factor = factor  # type: ignore[misc]
    drain = Drain(CONFIG, stream, backend, lambda measurement: True, ["default"])
    assert drain.run(0, 30).is_empty
    assert backend.transactions == transactions
    assert sum(amount for _, _, amount in backend.ledger_totals()) == 2 * 96 * 32


def test_a_frame_of_good_and_refused_events_of_which_some_go_elsewhere() -> None:
    stream, producer = MemoryStream(CONFIG), Producer(1, {})
    refused = "a field was no value"
    some = [wire("checkout"), wire("checkout", refused), wire("other"), wire("other", refused)]
    send(stream, producer, some * 5)
    backend = Counting("default", {})
    drain = Drain(CONFIG, stream, backend, lambda name: name == "checkout", ["default"])
    assert drain.run(0, 30) == (10, True)
    totals = {(name, outcome): amount for name, outcome, amount in backend.ledger_totals()}
    assert totals == {
        ("checkout", "captured"): 10,
        ("checkout", "stored"): 5,
        ("checkout", "dead_lettered"): 5,
    }
