from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.pipeline.codec import FrameHeader, decode_header
from tailrace.pipeline.ledger import (
    CAPTURED,
    DROPPED_BUFFER_FULL,
    DROPPED_REDIS_LOST,
    DROPPED_SPOOL_FULL,
    NOTE,
    SAMPLED_OUT,
    STORED,
    Balance,
    Bookings,
    HighWater,
    Key,
    minute_of,
)
from tailrace.pipeline.producer import Producer

PRODUCER = b"0123456789"
MINUTE = 1_700_000_040


class Books:
    """Books frames as the drain does, and adds up what it has booked."""

    def __init__(self, accepts: frozenset[str] | None = None) -> None:
        self.accepts = accepts
        self.marks: dict[bytes, HighWater] = {}
        self.totals: dict[str, int] = {}

    def take(self, header: FrameHeader, gap_outcome: str = DROPPED_REDIS_LOST) -> dict[Key, int]:
        bookings = Bookings(lambda m: self.accepts is None or m in self.accepts)
        mark = self.marks.get(header.producer, HighWater(header.producer))
        bookings.add_frame(header, mark, gap_outcome)
        for measurement, amount in header.events.items():
            bookings.add(minute_of(header.created_ns), measurement, STORED, amount)
        self.marks[header.producer] = mark.after(header)
        for (_, _, outcome), amount in bookings.amounts().items():
            self.totals[outcome] = self.totals.get(outcome, 0) + amount
        return bookings.amounts()

    @property
    def balance(self) -> Balance:
        return Balance.of(self.totals.items())


def header(sequence: int, events: int, sent: int, **unsent: int) -> FrameHeader:
    """Return a header of one measurement; ``spool_full=3`` stands for dropped:spool_full."""
    return FrameHeader(
        producer=PRODUCER,
        sequence=sequence,
        created_ns=MINUTE * 10**9 + 59 * 10**9,
        started_ns=0,
        events={"a": events} if events else {},
        sent={"a": sent},
        unsent={f"dropped:{reason}": {"a": amount} for reason, amount in unsent.items()},
    )


def booked(books: Books) -> dict[str, int]:
    return {outcome: amount for outcome, amount in books.totals.items() if amount}


def test_frames_without_gaps_are_captured_and_stored() -> None:
    books = Books()
    assert books.take(header(1, 5, 5)) == {
        (MINUTE, "a", CAPTURED): 5,
        (MINUTE, "a", STORED): 5,
    }
    books.take(header(2, 7, 12))
    assert booked(books) == {CAPTURED: 12, STORED: 12}


def test_a_gap_is_counted_to_the_event() -> None:
    books = Books()
    books.take(header(1, 5, 5))
    books.take(header(4, 2, 17))
    assert booked(books) == {CAPTURED: 17, STORED: 7, DROPPED_REDIS_LOST: 10}
    assert books.balance.is_balanced


def test_the_docstrings_example() -> None:
    """Frames 5 to 7 fall out of a full spool; 8 was made before that, and 9 after it."""
    books = Books()
    books.take(header(4, 10, 10))
    books.take(header(8, 10, 50))
    assert booked(books) == {CAPTURED: 50, STORED: 20, DROPPED_REDIS_LOST: 30}
    assert books.balance.is_balanced
    amounts = books.take(header(9, 10, 60, spool_full=30))
    assert amounts[MINUTE, "a", DROPPED_REDIS_LOST] == -30, "amounts are signed"
    assert booked(books) == {CAPTURED: 60, STORED: 30, DROPPED_SPOOL_FULL: 30}
    assert books.balance.is_balanced


def test_drops_before_framing_explain_no_gap() -> None:
    books = Books()
    books.take(header(1, 5, 5, buffer_full=3))
    books.take(header(3, 5, 15, buffer_full=4))
    assert booked(books) == {
        CAPTURED: 19,
        STORED: 10,
        DROPPED_BUFFER_FULL: 4,
        DROPPED_REDIS_LOST: 5,
    }


def test_notes_are_no_outcome() -> None:
    books = Books()
    base = header(1, 5, 5)
    books.take(msgspec.structs.replace(base, unsent={NOTE + "truncated": {"a": 9}}))
    assert booked(books) == {CAPTURED: 5, STORED: 5, NOTE + "truncated": 9}
    assert books.balance.is_balanced
    assert books.marks[PRODUCER].captured() == {"a": 5}


def test_a_backend_books_its_own_measurements_only() -> None:
    books = Books(frozenset("b"))
    books.take(header(1, 5, 5, buffer_full=3))
    assert booked(books) == {}


def test_the_minute_is_that_of_the_frame() -> None:
    assert [minute_of(s * 10**9) for s in (0, 59, 60, 119.5, 120)] == [0, 0, 60, 60, 120]
    assert minute_of(-1) == -60


def test_a_backend_that_joins_late_starts_at_its_first_frame() -> None:
    late = header(7, 5, 65, buffer_full=3)
    mark = HighWater.baseline(late)
    bookings = Bookings()
    bookings.add_frame(late, mark, DROPPED_REDIS_LOST)
    assert bookings.amounts() == {(MINUTE, "a", CAPTURED): 5}
    assert mark.captured() == {"a": 0}
    assert mark.after(late).captured() == {"a": 5}


@pytest.mark.parametrize(
    ("totals", "line"),
    [
        (
            [],
            "captured=0 stored=0 sampled_out=0 dropped=0 dead_lettered=0 in_flight=0 balanced=yes",
        ),
        (
            [(CAPTURED, 9), (STORED, 4), (SAMPLED_OUT, 1), ("dead_lettered", 1), ("dropped:x", 3)],
            "captured=11 stored=4 sampled_out=1 dropped=3 dead_lettered=1 in_flight=2 balanced=yes",
        ),
        (
            [(CAPTURED, 5), (STORED, 4)],
            "captured=7 stored=4 sampled_out=0 dropped=0 dead_lettered=0 in_flight=2 balanced=no",
        ),
    ],
)
def test_the_ledger_line(totals: list[tuple[str, int]], line: str) -> None:
    balance = Balance.of(totals, in_flight=2 if totals else 0)
    assert balance.line() == f"ledger: {line}"
    assert balance.is_balanced is line.endswith("yes")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "lose", "spool_full", "stream_full", "count"]),
        st.integers(0, 1),
        st.integers(0, 5),
        st.sampled_from("ab"),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_is_lost_the_books_balance_to_the_event(
    steps: list[tuple[str, int, int, str]],
) -> None:
    """Two shards of one real producer; frames arrive, get lost, or fall out of the spool."""
    producer, books = Producer(2, {}), Books()
    issued = counted = stored = lost = 0
    told = {"spool_full": 0, "stream_full": 0}
    for kind, offset, amount, measurement in steps:
        if kind == "count":
            producer.count(DROPPED_BUFFER_FULL, measurement, amount)
            counted += amount
            continue
        _, frame = producer.frame(offset, [measurement] * amount, b"\x90")
        issued += amount
        if kind == "arrive":
            books.take(decode_header(frame))
            stored += amount
        elif kind == "lose":
            lost += amount
        else:
            producer.count(f"dropped:{kind}", measurement, amount)
            told[kind] += amount
        assert books.balance.is_balanced
    for shard in (0, 1):
        books.take(decode_header(producer.counting_frame(shard)[1]))
    assert books.balance.is_balanced
    assert books.balance.captured == issued + counted
    assert books.balance.stored == stored
    dropped = {**told, "buffer_full": counted, "redis_lost": lost}
    # Of a shard whose drops were reported on the other shard, the gap shows here and the
    # correction there; the sums are right.
    assert books.balance.dropped == {reason: n for reason, n in dropped.items() if n}
    assert sum(sum(m.captured().values()) for m in books.marks.values()) == issued + counted
