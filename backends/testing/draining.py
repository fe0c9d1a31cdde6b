"""The real drain, with frames of the real producer, into the backend under test."""

from __future__ import annotations

import math
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.config import BackendConfig, Config
from tailrace.pipeline.drain import Drain
from tailrace.pipeline.ledger import DROPPED_BUFFER_FULL, NOTE, SAMPLED_OUT
from tailrace.pipeline.producer import Producer
from tailrace.pipeline.stream import Entry

from .frames import Issued, issue, issue_counts, wire_event
from .hooks import Tools
from .stream import MemoryStream

_DRAIN_SECONDS = 30.0
CONFIG = Config(backends={"default": BackendConfig()}, shards=2)


class InjectedCrash(Exception):
    """The process dies here, as far as the backend can tell."""


class CrashingBackend:
    """Passes everything on, and dies at the end of its first transaction."""

    def __init__(self, backend: Any, *, has_committed: bool) -> None:
        self._backend = backend
        self._has_committed = has_committed
        self.alias = backend.alias
        self.batch_factor: int = backend.batch_factor
        self.read_checkpoint: Callable[[int], Checkpoint | None] = backend.read_checkpoint
        self.create_checkpoint = backend.create_checkpoint

    @contextmanager
    def transaction(self, shard: int) -> Iterator[Any]:
        with self._backend.transaction(shard) as tx:
            yield tx
            if not self._has_committed:
                raise InjectedCrash("before commit")
        raise InjectedCrash("after commit")


class InterruptedStream(MemoryStream):
    """Calls ``between`` once, after a drain has read and before it stores."""

    between: Callable[[], object] | None = None

    def read(self, shard: int, after: str, count: int) -> list[Entry]:
        entries = super().read(shard, after, count)
        between, self.between = self.between, None
        if between is not None:
            self.expire_leases()
            between()
        return entries


def drain(backend: Any, stream: MemoryStream, config: Config = CONFIG) -> None:
    """Drain every shard until it is empty."""
    drainer = _drainer(backend, stream, config)
    for shard in range(config.shards):
        assert drainer.run(shard, _DRAIN_SECONDS).is_empty


def _drainer(backend: Any, stream: Any, config: Config = CONFIG) -> Drain:
    return Drain(config, stream, backend, lambda measurement: True, [backend.alias])


def _send(stream: MemoryStream, *frames: Issued) -> None:
    for issued in frames:
        stream.send(issued.shard, [issued.frame])


class DrainContract(Tools):
    """Tests that each event ends up in exactly one place, and that the ledger says where."""

    def test_events_of_many_frames_are_stored_once(self) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        producers = [Producer(2, {"release": "r1"}) for _ in range(3)]
        frames = [
            issue(producers[number % 3], [wire_event(n) for n in range(number % 4 + 1)], number)
            for number in range(24)
        ]
        _send(stream, *frames)
        drain(backend, stream)
        self._check_stored(backend, frames)
        self.check_ledger(backend, captured=60, stored=60)
        if backend.features.keeps_events:
            assert all(e["tags"]["release"] == "r1" for e in self.stored_events(backend))
        assert [stream.length(shard) for shard in (0, 1)] == [0, 0], "trimmed after the commit"

    def test_draining_again_changes_nothing(self) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        frame = issue(Producer(1, {}), [wire_event(1), wire_event(2)])
        _send(stream, frame)
        drain(backend, stream)
        drain(self.another(backend), stream)
        self._check_stored(backend, [frame])
        self.check_ledger(backend, captured=2, stored=2)

    def test_copies_of_a_frame_are_dropped(self) -> None:
        """The reply to an XADD was lost, and the producer sent the frame again."""
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        self._needs_marks(backend)
        producer = Producer(1, {})
        first, second = (issue(producer, [wire_event(n)]) for n in range(2))
        _send(stream, first, first, second)
        drain(backend, stream)
        _send(stream, second)
        drain(backend, stream)
        self._check_stored(backend, [first, second])
        self.check_ledger(backend, captured=2, stored=2)

    def test_missing_frames_are_counted_to_the_event(self) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        producer = Producer(1, {})
        first, lost, last = (issue(producer, [wire_event(n)] * (n + 1)) for n in range(3))
        _send(stream, first, last)
        drain(backend, stream)
        self._check_stored(backend, [first, last])
        self.check_ledger(
            backend, captured=6, stored=4, dropped_redis_lost=len(lost.ids), dead_lettered=0
        )

    def test_a_redis_that_lost_its_memory_is_read_from_its_start(self) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        producer = Producer(1, {})
        first, lost, last = (issue(producer, [wire_event(n)] * (n + 1)) for n in range(3))
        _send(stream, first)
        drain(backend, stream)
        _send(stream, lost)
        # Its clock is behind as well: the new entries have smaller ids than the old ones.
        stream.lose_memory(clock_back_ms=60_000)
        _send(stream, last)
        drain(backend, stream)
        self._check_stored(backend, [first, last])
        self.check_ledger(backend, captured=6, stored=4, dropped_redis_lost=2)

    def test_a_redis_from_an_older_snapshot_doubles_nothing(self) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        self._needs_marks(backend)
        producer = Producer(1, {})
        first, second, third = (issue(producer, [wire_event(n)]) for n in range(3))
        _send(stream, first)
        before = stream.snapshot()
        _send(stream, second)
        drain(backend, stream)
        stream.restore(before)
        drain(backend, stream)
        _send(stream, third)
        drain(backend, stream)
        self._check_stored(backend, [first, second, third])
        self.check_ledger(backend, captured=3, stored=3, dropped_redis_lost=0)

    def test_what_producers_counted_is_booked(self) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        producer = Producer(1, {})
        producer.count(DROPPED_BUFFER_FULL, "checkout", 3)
        producer.count(NOTE + "truncated", "checkout", 9)
        frame = issue(producer, [wire_event(1), wire_event(2)])
        producer.count(SAMPLED_OUT, "query", 5)
        _send(stream, frame, issue_counts(producer))
        drain(backend, stream)
        self._check_stored(backend, [frame])
        self.check_ledger(backend, captured=10, stored=2, sampled_out=5, dropped_buffer_full=3)

    def test_what_cannot_be_stored_becomes_dead_letters(self) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        producer = Producer(1, {})
        good = issue(producer, [wire_event(1)])
        rejected = issue(producer, [(*wire_event(2), "rejected at capture")])
        corrupt = issue(producer, [wire_event(3), wire_event(4)])
        _send(stream, good, rejected, corrupt._replace(frame=corrupt.frame[:-3] + b"xyz"))
        stream.send(0, [b"no frame at all", b"", corrupt.frame[:10]])
        drain(backend, stream)
        self._check_stored(backend, [good])
        self.check_ledger(backend, captured=4, stored=1, dead_lettered=3)
        assert self.count_dead_letters(backend) in (5, None)

    def test_an_event_that_does_not_fit_its_frame_costs_only_itself(self) -> None:
        """A faulty producer sent a NaN, under a right checksum."""
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        good = [wire_event(n) for n in range(4)]
        bad = wire_event(9, fields={"number": math.nan})
        frame = issue(Producer(1, {}), [*good[:2], bad, *good[2:]])
        _send(stream, frame)
        drain(backend, stream)
        self.check_ledger(backend, captured=5, stored=4, dead_lettered=1)
        assert self.count_dead_letters(backend) in (1, None)
        if backend.features.keeps_events:
            numbers = [event["fields"]["number"] for event in self.stored_events(backend)]
            assert sorted(numbers) == [0, 1, 2, 3]

    def test_refused_events_do_not_stop_the_others(self) -> None:
        bad = self.refused_event()
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        if bad is None or bad.id == b"short":
            return  # no event that fits a frame is refused; the tests of write() cover it
        producer = Producer(1, {})
        wire = (bad.measurement, bad.time_ns, bad.tags, bad.fields, bad.trace_id)
        frames = [issue(producer, [wire_event(n), wire, wire_event(n + 1)]) for n in range(3)]
        _send(stream, *frames)
        drain(backend, stream)
        self.check_ledger(backend, captured=9, stored=6, dead_lettered=3)

    def test_a_crash_before_the_commit_leaves_nothing(self) -> None:
        self._check_crash(has_committed=False)

    def test_a_crash_after_the_commit_doubles_nothing(self) -> None:
        self._check_crash(has_committed=True)

    def _check_crash(self, *, has_committed: bool) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        frames = [issue(Producer(1, {}), [wire_event(n), wire_event(n)]) for n in range(4)]
        _send(stream, *frames)
        try:
            drain(CrashingBackend(backend, has_committed=has_committed), stream)
        except InjectedCrash:
            assert stream.length(0) == 4, "nothing is trimmed before it is committed"
        else:
            raise AssertionError("the crash did not happen: did the drain open a transaction?")
        if backend.features.transactional_checkpoint and backend.features.keeps_events:
            assert sum(self.stored_ids(backend).values()) == (8 if has_committed else 0)
        drain(self.another(backend), stream)
        self._check_stored(backend, frames)
        self.check_ledger(backend, captured=8, stored=8)

    def test_a_second_drainer_at_the_same_entries_stores_nothing_twice(self) -> None:
        """As when the first one was stopped after it had read, and its lease ran out."""
        backend, stream = self.make_backend(), InterruptedStream(CONFIG)
        frames = [issue(Producer(1, {}), [wire_event(n), wire_event(n)]) for n in range(4)]
        _send(stream, *frames)
        other = self.another(backend)
        seen: list[int] = []
        stream.between = lambda: seen.append(_drainer(other, stream).run(0, 30.0).events)
        result = _drainer(backend, stream).run(0, _DRAIN_SECONDS)
        assert (seen, result.events) == ([8], 0), "the first one's work must be undone"
        self._check_stored(backend, frames)
        self.check_ledger(backend, captured=8, stored=8)

    def test_a_backend_that_joins_later_answers_only_for_what_it_can_know(self) -> None:
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        producer = Producer(1, {})
        issue(producer, [wire_event(1)] * 7)  # went to another backend, and was trimmed
        stream.publish_position(0, "another", "1-0")
        seen = issue(producer, [wire_event(2)])
        _send(stream, seen)
        drain(backend, stream)
        self._check_stored(backend, [seen])
        self.check_ledger(backend, captured=1, stored=1, dropped_redis_lost=0)

    def test_a_hostile_stream_stops_nothing(self) -> None:
        seed = random.randrange(2**32)
        print(f"seed: {seed}")  # noqa: T201 - pytest shows it when the test fails
        rng = random.Random(seed)
        backend, stream = self.make_backend(), MemoryStream(CONFIG)
        producer = Producer(1, {})
        frame = issue(producer, [wire_event(n) for n in range(3)]).frame
        for _ in range(100):
            mutated = bytearray(frame)
            position = rng.randrange(len(mutated))
            mutated[position] ^= rng.randrange(1, 256)
            stream.send(0, [bytes(mutated)])
        good = issue(producer, [wire_event(1)])
        _send(stream, good)
        drain(backend, stream)
        assert stream.length(0) == 0
        self._check_stored(backend, [good])
        self.check_ledger(backend, captured=4, stored=1)

    def _check_stored(self, backend: Any, frames: list[Issued]) -> None:
        if backend.features.keeps_events:
            assert self.stored_ids(self.another(backend)) == _uuids(frames)

    def _needs_marks(self, backend: Any) -> None:
        """Copies are recognised by marks, or by rows that are the same when written again."""
        if backend.features.keeps_events or backend.features.ledger:
            return
        self.needs(backend, "ledger")


def _uuids(frames: list[Issued]) -> Counter[str]:
    return Counter(str(uuid.UUID(bytes=event)) for frame in frames for event in frame.ids)
