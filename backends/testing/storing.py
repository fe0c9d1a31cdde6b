"""One batch at a time: all or nothing."""

from __future__ import annotations

import copy
import unittest
from typing import Any

from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter, write_or_reject
from tailrace.pipeline.errors import BackendError, BackendMisconfigured, RejectedEvents
from tailrace.pipeline.ledger import CAPTURED, SAMPLED_OUT, STORED, HighWater

from .frames import MEASUREMENT, make_event, make_events
from .hooks import Tools, moved

MINUTE = 1_700_000_040
PRODUCER = b"8 bytes.\0\1"


class _Crash(Exception):
    """What a test raises inside a transaction."""


class StoringContract(Tools):
    """Tests of :class:`tailrace.backends.base.Transaction`."""

    # --- checkpoints

    def test_a_new_storage_has_no_checkpoint(self) -> None:
        assert self.make_backend().read_checkpoint(0) is None

    def test_the_first_checkpoint_stays(self) -> None:
        backend = self.make_backend()
        first = Checkpoint(3, "5-1", "epoch-0", created_ns=1_700_000_000_000_000_001)
        backend.create_checkpoint(first)
        self.another(backend).create_checkpoint(Checkpoint(3, "9-9", "epoch-9"))
        assert self.another(backend).read_checkpoint(3) == first
        assert backend.read_checkpoint(4) is None

    def test_a_transaction_shows_and_moves_its_shards_checkpoint(self) -> None:
        backend = self.open_shard(0, 1)
        self.commit(backend, "1700000000000-7")
        with backend.transaction(0) as tx:
            assert tx.checkpoint.position == "1700000000000-7"
            assert tx.checkpoint == backend.read_checkpoint(0)
        other = self.another(backend).read_checkpoint(1)
        assert other is not None
        assert other.position == "0-0", "the shards have one checkpoint each"

    def test_a_shard_without_checkpoint_is_refused(self) -> None:
        backend = self.make_backend()
        try:
            with backend.transaction(0):
                raise AssertionError("transaction() must refuse a shard that has no checkpoint")
        except BackendMisconfigured as error:
            _check_error(error)

    # --- all or nothing

    def test_everything_is_there_when_the_block_ends(self) -> None:
        backend = self.open_shard()
        events = make_events(3)
        letter = DeadLetter.of_event(make_event(), "no reason", MINUTE)
        amounts = {(MINUTE, MEASUREMENT, CAPTURED): 4}
        mark = HighWater(PRODUCER, 1, {MEASUREMENT: 4})
        self.commit(backend, "1-0", events=events, letters=[letter], amounts=amounts, marks=[mark])
        after = self.another(backend)
        checkpoint = after.read_checkpoint(0)
        assert checkpoint == Checkpoint(0, "1-0", "epoch-1")
        if backend.features.ledger:
            assert list(after.ledger_totals()) == [(MEASUREMENT, CAPTURED, 4)]
            assert after.producer_totals() == {MEASUREMENT: 4}
            assert self.count_dead_letters(after) in (1, None)
        if backend.features.keeps_events:
            assert self.stored_ids(after) == {str(event.uuid): 1 for event in events}

    def test_nothing_is_there_when_the_block_raises(self) -> None:
        backend = self.open_shard()
        self.needs(backend, "transactional_checkpoint")
        crash, seen = _Crash(), None
        try:
            with backend.transaction(0) as tx:
                tx.write(make_events(3))
                tx.park([DeadLetter.of_event(make_event(), "no reason", MINUTE)])
                tx.book({(MINUTE, MEASUREMENT, CAPTURED): 4})
                tx.advance(moved(tx, "1-0"), [HighWater(PRODUCER, 1, {MEASUREMENT: 4})])
                raise crash
        except _Crash as error:
            seen = error
        assert seen is crash, "an exception of the caller goes through as it is"
        self._check_untouched(backend)
        self.commit(backend, "2-0", events=make_events(1))  # and life goes on
        if backend.features.keeps_events:
            assert sum(self.stored_ids(backend).values()) == 1

    def _check_untouched(self, backend: Any) -> None:
        after = self.another(backend)
        assert after.read_checkpoint(0) == Checkpoint(0)
        assert list(after.ledger_totals()) == []
        assert after.producer_totals() == {}
        assert self.count_dead_letters(after) in (0, None)
        if backend.features.keeps_events:
            assert self.stored_events(after) == []
        with after.transaction(0) as tx:
            assert tx.high_waters([PRODUCER]) == {}

    def test_writing_again_changes_nothing_where_rows_come_before_the_checkpoint(self) -> None:
        backend = self.open_shard()
        if backend.features.transactional_checkpoint or not backend.features.keeps_events:
            return  # exactly once by the transaction; the test above is the one that counts
        events = make_events(3)
        self.commit(backend, "1-0", events=events)
        self.commit(backend, "2-0", events=events)
        assert self.stored_ids(backend) == {str(event.uuid): 1 for event in events}

    def test_empty_calls_do_nothing(self) -> None:
        backend = self.open_shard()
        with backend.transaction(0) as tx:
            assert tx.high_waters([]) == {}
            tx.write([])
            tx.park([])
            tx.book({})
            tx.advance(tx.checkpoint, [])
        assert backend.read_checkpoint(0) == Checkpoint(0)
        assert list(backend.ledger_totals()) == []

    # --- refusals

    def test_a_refusal_leaves_the_transaction_usable(self) -> None:
        backend = self.open_shard()
        bad = self._refused(backend)
        good = make_events(3)
        with backend.transaction(0) as tx:
            tx.write(good[:1])
            try:
                tx.write([good[1], bad, good[2]])
            except RejectedEvents as error:
                _check_error(error)
            else:
                raise AssertionError("write() must raise RejectedEvents for refused_event()")
            tx.write(good[1:])
            tx.park([DeadLetter.of_event(bad, "refused", MINUTE)])
            tx.advance(moved(tx, "1-0"), [])
        assert self.stored_ids(backend) == {str(event.uuid): 1 for event in good}
        assert self.count_dead_letters(backend) in (1, None)

    def test_halving_finds_exactly_the_refused_ones(self) -> None:
        backend = self.open_shard()
        bad = [self._refused(backend) for _ in range(3)]
        good = make_events(60)
        batch = [bad[0], *good[:30], bad[1], *good[30:], bad[2]]
        with backend.transaction(0) as tx:
            rejected = write_or_reject(tx.write, batch)
            tx.advance(moved(tx, "1-0"), [])
        assert [id(event) for event, _ in rejected] == [id(event) for event in bad]
        assert all(reason for _, reason in rejected), "each refusal says why"
        assert self.stored_ids(backend) == {str(event.uuid): 1 for event in good}

    def _refused(self, backend: Any) -> Any:
        bad = self.refused_event()
        if bad is None:
            raise unittest.SkipTest("refused_event() gives none: this storage takes every event")
        self.needs(backend, "keeps_events")
        return bad

    def test_dead_letters_of_any_content_can_be_parked(self) -> None:
        """Parking is the last resort: what is wrong with an event must not stop it."""
        backend = self.open_shard()
        hostile = make_event(tags={"a": "b"}, fields={"text": "x"})
        hostile.tags, hostile.fields = {"nul\0": "\0"}, {"nul\0": "a\0b", "huge": "x" * 100_000}
        hostile.trace_id = "\0"
        letters = [
            DeadLetter.of_event(hostile, "reason with \0 and " + "x" * 5_000, MINUTE),
            DeadLetter(measurement=MEASUREMENT, reason="no frame", frame=bytes(range(256))),
            DeadLetter(measurement="__invalid__", reason="", events=0, entry_id="1-1"),
        ]
        self.commit(backend, "1-0", letters=letters)
        assert self.count_dead_letters(backend) in (3, None)

    # --- marks and ledger

    def test_high_waters_come_back_as_they_were(self) -> None:
        backend = self.open_shard()
        self.needs(backend, "ledger")
        mark = HighWater(
            PRODUCER,
            2**40,
            {"checkout": 2**53 + 1, "naïve 数据": 0},
            {SAMPLED_OUT: {"checkout": 3}, "dropped:buffer_full": {"b": 1}, "note:truncated": {}},
            is_last=False,
            before={"checkout": 17},
        )
        other = HighWater(bytes(range(246, 256)), 1, is_last=True)
        self.commit(backend, "1-0", marks=[mark, other])
        with self.another(backend).transaction(0) as tx:
            assert tx.high_waters([PRODUCER, b"never seen"]) == {PRODUCER: mark}
            assert tx.high_waters([PRODUCER, other.producer]) == {
                PRODUCER: mark,
                other.producer: other,
            }
        later = HighWater(
            PRODUCER, 2**40 + 1, {"checkout": 2**53 + 2}, is_last=True, before=mark.before
        )
        self.commit(backend, "2-0", marks=[later])
        with backend.transaction(0) as tx:
            assert tx.high_waters([PRODUCER]) == {PRODUCER: later}

    def test_book_adds_up_signed_amounts(self) -> None:
        backend = self.open_shard(0, 1)
        self.needs(backend, "ledger")
        lost, full = (MINUTE, "a", "dropped:redis_lost"), (MINUTE, "a", "dropped:spool_full")
        self.commit(backend, "1-0", amounts={lost: 3, (MINUTE, "b", STORED): 2**53 + 1})
        self.commit(backend, "2-0", amounts={lost: -3, full: 3})
        self.commit(backend, "1-0", shard=1, amounts={full: 4})
        totals = {row[:2]: row[2] for row in self.another(backend).ledger_totals()}
        assert totals.pop(lost[1:], 0) == 0, "3 and -3 make nothing"
        assert totals == {full[1:]: 7, ("b", STORED): 2**53 + 1}

    def test_ledger_windows_are_half_open(self) -> None:
        backend = self.open_shard()
        self.needs(backend, "ledger")
        amounts = {(minute, "a", STORED): minute // 60 for minute in (60, 120, 180)}
        self.commit(backend, "1-0", amounts=amounts)

        def total(start: int | None = None, end: int | None = None) -> int:
            return sum(amount for _, _, amount in backend.ledger_totals(start, end))

        assert total() == 6
        assert total(start=120) == 5
        assert total(end=120) == 1
        assert total(60, 180) == 3
        assert total(120, 120) == 0

    def test_producer_totals_are_what_the_producers_say(self) -> None:
        backend = self.open_shard(0, 1)
        self.needs(backend, "ledger")
        first = HighWater(PRODUCER, 2, {"a": 5, "b": 1}, {SAMPLED_OUT: {"a": 2}})
        second = HighWater(b"another one"[:10], 1, {"a": 4}, before={"a": 3})
        self.commit(backend, "1-0", marks=[first])
        self.commit(backend, "1-0", shard=1, marks=[second])
        assert self.another(backend).producer_totals() == {"a": 8, "b": 1}

    def test_close_can_be_called_twice(self) -> None:
        backend = self.open_shard()
        self.commit(backend, "1-0")
        backend.close()
        backend.close()


def _check_error(error: BackendError) -> None:
    """Check that an error says something, and survives the trip between processes."""
    assert str(error), f"{type(error).__name__} has no message"
    # What pickling does: Celery carries errors between processes.
    again = copy.copy(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
