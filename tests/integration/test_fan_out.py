"""Several backends at once: each takes what is its own, at its own pace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tailrace.backends.memory import MemoryBackend
from tailrace.pipeline.buffer import Buffer
from tailrace.pipeline.config import BackendConfig, Config
from tailrace.pipeline.errors import TransientBackendError
from tailrace.pipeline.flusher import Flusher
from tailrace.pipeline.runtime import Runtime


class Moody(MemoryBackend):
    """A backend that is away now and then."""

    is_away = False

    @contextmanager
    def transaction(self, shard: int) -> Iterator[Any]:
        if self.is_away:
            raise TransientBackendError("away")
        with super().transaction(shard) as tx:
            yield tx


class Fleet:
    """A sender and two backends: one takes all but jobs, one takes exceptions and jobs."""

    def __init__(self, redis_url: str, directory: Path) -> None:
        self.config = Config(
            redis_url=redis_url,
            spool_dir=str(directory),
            redis_timeout_seconds=1.0,
            backends={
                "default": BackendConfig(exclude=("job*",)),
                "errors": BackendConfig(measurements=("exception", "job*")),
            },
        )
        self.backends = {name: Moody(name, {}) for name in self.config.backends}
        self.runtime = Runtime(self.config, self.backends.__getitem__)
        self.buffer = Buffer(self.config)
        self.flusher = Flusher(self.config, self.buffer)

    def send(self, measurement: str, count: int) -> None:
        for number in range(count):
            self.buffer.append((measurement, time.time_ns(), {}, {"n": number}, None))
        assert self.flusher.flush(10)

    def drain(self, alias: str) -> None:
        for shard in self.runtime.shards:
            self.runtime.drain(alias, shard)

    def entries(self) -> int:
        return sum(self.runtime.stream.length(shard) for shard in self.runtime.shards)

    def stored(self, alias: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for event in self.backends[alias].events():
            counts[event.measurement] = counts.get(event.measurement, 0) + 1
        return counts


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(redis_url, tmp_path / "spool")
    yield made
    made.flusher.close(5)
    made.runtime.close()


def test_each_backend_takes_its_measurements(fleet: Fleet) -> None:
    for measurement, count in {"request": 900, "exception": 20, "job.started": 7}.items():
        fleet.send(measurement, count)
    for alias in fleet.backends:
        fleet.drain(alias)
    assert fleet.stored("default") == {"request": 900, "exception": 20}
    assert fleet.stored("errors") == {"exception": 20, "job.started": 7}
    assert fleet.entries() == 0
    for alias, captured in {"default": 920, "errors": 27}.items():
        balance = fleet.runtime.balance(alias)
        assert (balance.captured, balance.stored, balance.is_balanced) == (captured, captured, True)


def test_one_that_is_away_keeps_its_own_and_holds_up_nobody(fleet: Fleet) -> None:
    fleet.backends["errors"].is_away = True
    fleet.send("exception", 1_500)
    fleet.drain("default")
    with pytest.raises(TransientBackendError):
        fleet.drain("errors")
    assert fleet.stored("default") == {"exception": 1_500}
    assert fleet.entries() > 0, "what one backend still needs must stay"
    assert fleet.runtime.balance("errors").in_flight == 1_500
    fleet.backends["errors"].is_away = False
    fleet.drain("errors")
    assert fleet.stored("errors") == {"exception": 1_500}
    assert fleet.entries() == 0


def test_one_that_never_drained_keeps_everything(fleet: Fleet) -> None:
    fleet.send("request", 600)
    fleet.drain("default")
    assert fleet.entries() > 0


def test_one_that_joins_later_answers_for_what_comes_then(fleet: Fleet) -> None:
    """What the producers sent before went to the others, and is no loss."""
    late = fleet.runtime.config.backends.pop("errors")
    alone = Runtime(fleet.config, fleet.backends.__getitem__)
    fleet.send("exception", 1_000)
    for shard in alone.shards:
        alone.drain("default", shard)
    assert fleet.entries() == 0
    fleet.runtime.config.backends["errors"] = late
    fleet.send("exception", 40)
    for alias in fleet.backends:
        fleet.drain(alias)
    assert fleet.stored("errors") == {"exception": 40}
    balance = fleet.runtime.balance("errors")
    assert (balance.captured, balance.dropped, balance.is_balanced) == (40, {}, True)
    assert fleet.backends["errors"].producer_totals() == {"exception": 40}
    alone.close()
