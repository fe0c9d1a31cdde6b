"""Many at once: one shard one by one, two shards side by side, threads, forks."""

from __future__ import annotations

import os
import threading
import time
import traceback
import unittest
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.ledger import STORED

from .frames import MEASUREMENT, make_events
from .hooks import Tools, moved, patiently
from .storing import MINUTE

_WAIT_SECONDS = 20.0
_OVERLAP_SECONDS = 0.2


class ConcurrencyContract(Tools):
    """Tests of what a backend promises to drains that run at the same time."""

    def test_create_checkpoint_in_many_threads_makes_one(self) -> None:
        backend = self.make_backend()
        start = threading.Barrier(6)

        def create(number: int) -> Checkpoint | None:
            start.wait(_WAIT_SECONDS)
            patiently(lambda: backend.create_checkpoint(Checkpoint(0, f"{number}-0")))
            seen = patiently(lambda: backend.read_checkpoint(0))
            backend.close()
            return seen

        seen = _in_threads(create, 6)
        assert None not in seen
        assert len(set(seen)) == 1, f"all must see the same checkpoint, not {set(seen)}"

    def test_transactions_on_one_shard_come_one_after_the_other(self) -> None:
        """The second drainer waits, or is told to come later; it then sees the first's work."""
        backend = self.open_shard()
        other = self.another(backend)
        is_inside = threading.Event()
        log: list[str] = []

        def first(_: int) -> None:
            with backend.transaction(0) as tx:
                is_inside.set()
                time.sleep(_OVERLAP_SECONDS)
                tx.advance(moved(tx, "1-0"), [])
                log.append("first ends")
            backend.close()

        def enter() -> str:
            with other.transaction(0) as tx:
                log.append("second begins")
                return tx.checkpoint.position

        def second(_: int) -> str:
            assert is_inside.wait(_WAIT_SECONDS)
            position = patiently(enter)
            other.close()
            return position

        with ThreadPoolExecutor(2) as pool:
            one, two = pool.submit(first, 0), pool.submit(second, 1)
            one.result(_WAIT_SECONDS)
            position = two.result(_WAIT_SECONDS)
        assert log == ["first ends", "second begins"]
        assert position == "1-0", "a transaction shows the checkpoint as it is under the lock"

    def test_no_update_gets_lost_between_threads_on_one_shard(self) -> None:
        backend = self.open_shard()

        def work(number: int) -> None:
            mine = self.another(backend)
            for _ in range(5):
                patiently(lambda: self._add_one(mine, 0))
            mine.close()

        _in_threads(work, 4)
        checkpoint = backend.read_checkpoint(0)
        assert checkpoint is not None
        assert checkpoint.position == "20-0"
        if backend.features.ledger:
            assert list(backend.ledger_totals()) == [(MEASUREMENT, STORED, 20)]

    def test_two_shards_work_side_by_side(self) -> None:
        backend = self.open_shard(0, 1)

        def work(shard: int) -> None:
            for _ in range(5):
                patiently(lambda: self._add_one(backend, shard))
            backend.close()

        _in_threads(work, 2)
        for shard in (0, 1):
            checkpoint = backend.read_checkpoint(shard)
            assert checkpoint is not None
            assert checkpoint.position == "5-0"
        if backend.features.ledger:
            assert list(backend.ledger_totals()) == [(MEASUREMENT, STORED, 10)]
        if backend.features.keeps_events:
            ids = self.stored_ids(backend)
            assert (len(ids), sum(ids.values())) == (10, 10)

    def test_a_forked_child_uses_connections_of_its_own(self) -> None:
        if not self.is_shared_between_processes:
            raise unittest.SkipTest("the storage lives in the memory of one process")
        backend = self.open_shard()
        self._add_one(backend, 0)
        child = _fork()
        if child == 0:
            _exit_after(lambda: patiently(lambda: self._add_one(backend, 0)))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, "the child failed; its traceback is above"
        self._add_one(backend, 0)
        checkpoint = backend.read_checkpoint(0)
        assert checkpoint is not None
        assert checkpoint.position == "3-0"

    def _add_one(self, backend: Any, shard: int) -> None:
        events = make_events(1)
        with backend.transaction(shard) as tx:
            number = int(tx.checkpoint.position.partition("-")[0]) + 1
            tx.write(events)
            tx.book({(MINUTE, MEASUREMENT, STORED): 1})
            tx.advance(moved(tx, f"{number}-0"), [])


def _in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return [
            future.result(_WAIT_SECONDS)
            for future in [pool.submit(work, number) for number in range(count)]
        ]


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads; that is what is under test here.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _exit_after(work: Callable[[], Any]) -> None:
    """Do some work in a forked child and end it, without running anyone's exit handlers."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - the parent must see any failure as a status
        traceback.print_exc()
    finally:
        os._exit(status)
