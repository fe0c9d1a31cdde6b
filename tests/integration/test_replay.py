"""Replay on real databases: exactly once, whoever replays and whatever dies in between."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from admin import seed
from django.apps import apps
from django.core.management import CommandError, call_command
from fix_admin_site import AdminSite

from tailrace.backends import get_backend
from tailrace.pipeline import codec
from tailrace.pipeline.codec import FrameEncoder, FrameHeader
from tailrace.pipeline.config import Config
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.drain import Drain
from tailrace.pipeline.errors import NotSupportedByBackend, TransientBackendError
from tailrace.pipeline.parked import LetterSelection
from tailrace.pipeline.replay import Replay, ReplayResult
from tailrace.pipeline.stream import Stream

Databases = Callable[..., None]
EVERYTHING = LetterSelection()


def replay(selection: LetterSelection = EVERYTHING, **how: object) -> ReplayResult:
    """Replay in this process, from the backend ``default``."""
    return Replay(get_backend(), lambda name: True).run(selection, **how)


def test_replay_moves_events_from_dead_lettered_to_stored(admin_site: AdminSite) -> None:
    """The command stores what waits, on both engines, and is idle the second time."""
    admin_site.python("seed.park(range(5)); seed.park(range(5, 8), 'request', shard=1)")
    status, output = admin_site.run("tailrace_replay", "--all")
    assert status == 0, output
    assert "replayed 8 letters, 8 events stored" in output
    assert admin_site.run("tailrace_replay", "--all")[0] == 0
    books = admin_site.books()
    assert books["numbers"] == list(range(8))
    assert (books["captured"], books["stored"], books["dead_lettered"]) == (8, 8, 0)
    assert books["is_balanced"]
    assert (books["waiting"], books["replayed"]) == (0, 8)


def test_what_the_storage_refuses_again_stays(admin_site: AdminSite) -> None:
    """Bad letters among good ones: they keep waiting, with the new reason, and exit status 1."""
    admin_site.python(
        "seed.refuse_poison(); seed.park(range(6)); seed.park([6, 7], fields={'poison': 1})"
    )
    for attempts in (1, 2):
        status, output = admin_site.run("tailrace_replay", "--all")
        assert status == 1, output
        assert "refused again 2" in output
        books = admin_site.books()
        assert books["numbers"] == list(range(6))
        assert (books["stored"], books["dead_lettered"], books["is_balanced"]) == (6, 2, True)
        assert books["attempts"] == [0] * 6 + [attempts] * 2
        assert all("poison" in reason for reason in books["reasons"][6:])


@pytest.mark.faults
@pytest.mark.parametrize(
    ("point", "stored"),
    [("after_replay_write", 0), ("before_replay_commit", 0), ("after_replay_commit", 1000)],
)
def test_a_killed_replay_leaves_all_or_nothing_of_a_slice(
    admin_site: AdminSite, point: str, stored: int
) -> None:
    """SIGKILL at each point; the next run finishes the work, and nothing is there twice."""
    admin_site.python("seed.park(range(1500))")
    status, output = admin_site.run("tailrace_replay", "--all", fault=f"{point}=kill")
    assert status == -9, output
    books = admin_site.books()
    assert books["numbers"] == list(range(stored))
    assert (books["stored"], books["dead_lettered"]) == (stored, 1500 - stored)
    assert (books["waiting"], books["replayed"]) == (1500 - stored, stored)
    status, output = admin_site.run("tailrace_replay", "--all")
    assert status == 0, output
    books = admin_site.books()
    assert books["numbers"] == list(range(1500))
    assert (books["stored"], books["dead_lettered"], books["is_balanced"]) == (1500, 0, True)


def test_two_replays_at_once_double_nothing(admin_site: AdminSite) -> None:
    """Two processes choose the same letters; each letter is replayed by one of them."""
    admin_site.python("[seed.park(range(s * 1500, s * 1500 + 1500), shard=s) for s in range(2)]")
    processes = [admin_site.start("tailrace_replay", "--all") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    counted = [
        int(re.search(r"replayed (\d+) letters", text)[1]) for text in outputs if "replayed" in text
    ]
    assert sum(counted) == 3000, outputs
    books = admin_site.books()
    assert books["numbers"] == list(range(3000))
    assert (books["stored"], books["dead_lettered"], books["is_balanced"]) == (3000, 0, True)


def test_somebody_replays_between_list_and_lock(admin_databases: Databases) -> None:
    """What another process replayed after it was listed here is skipped, and said to be."""
    seed.park(range(4))
    backend = get_backend()

    class Late:
        """Lists the letters, then lets another replay go first."""

        is_first = True

        def dead_letters(self, *args: object) -> object:
            listed = backend.dead_letters(*args)
            if self.is_first:
                self.is_first = False
                replay(LetterSelection(ids=(1, 2, 3)))
            return listed

        def transaction(self, shard: int) -> object:
            return backend.transaction(shard)

    result = Replay(Late(), lambda name: True).run(EVERYTHING)
    assert (result.replayed, result.gone) == (1, 3)
    assert seed.books()["numbers"] == [0, 1, 2, 3]


def test_what_was_refused_at_capture_stays_as_it_is(admin_databases: Databases) -> None:
    """A NaN cannot become a number by trying again; the letter says so and does not change."""
    seed.park([1], rejected="field 'amount' is nan")
    seed.park([2])
    result = replay()
    assert (result.replayed, result.impossible) == (1, 1)
    letter_id, message = result.details[0]
    assert letter_id == 1
    assert "refused when it was captured (field 'amount' is nan)" in message
    books = seed.books()
    assert books["numbers"] == [2]
    assert (books["dead_lettered"], books["attempts"], books["is_balanced"]) == (1, [0, 0], True)


def test_selection(admin_databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    """By measurement, reason, id and limit; a dry run changes nothing."""
    seed.park(range(3), "checkout", "column too short")
    seed.park(range(3, 6), "request", "column 100% too_short")
    call_command("tailrace_replay", all=True, dry_run=True)
    assert "would replay 6 letters" in capsys.readouterr().out
    assert seed.books()["numbers"] == []
    call_command("tailrace_replay", reason="100% too_")
    assert seed.books()["numbers"] == [3, 4, 5]
    call_command("tailrace_replay", "--id", "2", "4")  # 4 went already, which is fine
    assert seed.books()["numbers"] == [1, 3, 4, 5]
    call_command("tailrace_replay", measurement="checkout", limit=1)
    assert "run it again" in capsys.readouterr().out
    assert seed.books()["numbers"] == [0, 1, 3, 4, 5]
    call_command("tailrace_replay", measurement="checkout", limit=1)
    assert "run it again" not in capsys.readouterr().out
    assert seed.books()["numbers"] == list(range(6))


def test_the_summary_and_the_refusals(
    admin_databases: Databases, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a selection it tells what waits and how to go on; a wrong one is an error."""
    call_command("tailrace_replay")
    assert "no dead letters wait" in capsys.readouterr().out
    seed.park(range(3), "checkout", "too\nlong\x1b[31m")
    seed.park([3], "request")
    call_command("tailrace_replay")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["checkout", "3", "3", "too", "long", "[31m"]
    assert lines[3].split()[:3] == ["request", "1", "1"]
    assert "--all" in lines[-1]
    with pytest.raises(CommandError, match="no dead letter 77, 78; nothing was replayed"):
        call_command("tailrace_replay", "--id", "1", "77", "78")
    with pytest.raises(CommandError, match="no backend 'nope'; there are: default"):
        call_command("tailrace_replay", backend="nope")
    with pytest.raises(CommandError, match="say which letters"):
        call_command("tailrace_replay", dry_run=True)
    with pytest.raises(CommandError, match="no number from 1"):
        call_command("tailrace_replay", "--id", "9" * 5000)
    assert seed.books()["numbers"] == []


def test_a_storage_that_is_busy_fails_cleanly(
    admin_databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transient failure leaves the slice waiting and says to run it again."""
    seed.park(range(3))

    def transaction(self: object, shard: int) -> object:
        raise TransientBackendError("database 'default': locked")

    with monkeypatch.context() as patch:
        patch.setattr(type(get_backend()), "transaction", transaction)
        with pytest.raises(CommandError, match=r"locked.*nothing is lost or doubled; run it again"):
            call_command("tailrace_replay", all=True)
    assert seed.books()["waiting"] == 3


# --- frames


class Producer:
    """Makes the frames of one process, with its running totals."""

    def __init__(self) -> None:
        self.sequence = 0
        self.sent: dict[str, int] = {}

    def frame(self, *measurements: str, numbers: range, poison: int | None = None) -> bytes:
        """A frame with an event for each number, of the measurements in turn."""
        events, counts = [], dict.fromkeys(measurements, 0)
        for index, number in enumerate(numbers):
            name = measurements[index % len(measurements)]
            fields = {"n": number, "poison": 1} if number == poison else {"n": number}
            events.append((name, seed.NOW_NS + number, {}, fields, None))
            counts[name] += 1
            self.sent[name] = self.sent.get(name, 0) + 1
        self.sequence += 1
        encoder = FrameEncoder()
        header = FrameHeader(
            b"process1\0\0", self.sequence, seed.NOW_NS, seed.NOW_NS, counts, dict(self.sent)
        )
        return encoder.frame(header, encoder.payload(events))


@pytest.fixture
def stream(redis_url: str) -> Stream:
    """A stream with one shard."""
    return Stream(Config(redis_url=redis_url, shards=1), 5)


def drain(stream: Stream, redis_url: str) -> None:
    """Drain the shard into the backend ``default``."""
    config = Config(redis_url=redis_url, shards=1)
    Drain(config, stream, get_backend(), lambda name: True, ["default"]).run(0, 10)


def test_a_frame_letter_stores_the_events_of_its_measurement(admin_databases: Databases) -> None:
    """Each letter of a frame brings its own measurement's events back, and no other's."""
    frame = Producer().frame("a", "b", numbers=range(6))
    letters = [
        DeadLetter(measurement=name, reason="old", frame=frame, events=3, minute=seed.MINUTE)
        for name in "ab"
    ]
    seed.park_letters(letters)
    assert replay(LetterSelection(measurement="b")).events == 3
    assert seed.books()["numbers"] == [1, 3, 5]
    assert replay().events == 3
    books = seed.books()
    assert books["numbers"] == list(range(6))
    assert (books["stored"], books["dead_lettered"], books["is_balanced"]) == (6, 0, True)


def test_a_bad_event_in_a_frame_becomes_a_letter_of_its_own(admin_databases: Databases) -> None:
    """The others of its frame are stored, and it alone keeps waiting."""
    seed.refuse_poison()
    frame = Producer().frame("a", numbers=range(5), poison=3)
    seed.park_letters(
        [DeadLetter(measurement="a", reason="old", frame=frame, events=5, minute=seed.MINUTE)]
    )
    result = replay()
    assert (result.replayed, result.events, result.split) == (1, 4, 1)
    assert result.has_failures
    books = seed.books()
    assert books["numbers"] == [0, 1, 2, 4]
    assert (books["stored"], books["dead_lettered"], books["is_balanced"]) == (4, 1, True)
    assert (books["waiting"], books["replayed"]) == (1, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frame: frame[:-3], "cut short"),
        (lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]), "checksum"),
        (lambda frame: b"nonsense", "cut short"),
    ],
)
def test_a_frame_that_stays_unreadable_stays(
    admin_databases: Databases, damage: Callable[[bytes], bytes], message: str
) -> None:
    """Nothing is stored of it, and the reason is told."""
    frame = damage(Producer().frame("a", numbers=range(5)))
    seed.park_letters(
        [DeadLetter(measurement="a", reason="old", frame=frame, events=5, minute=seed.MINUTE)]
    )
    result = replay()
    assert (result.replayed, result.impossible) == (0, 1)
    assert message in result.details[0][1]
    assert seed.books()["dead_lettered"] == 5


def test_a_frame_that_holds_another_number_than_booked_stays(admin_databases: Databases) -> None:
    """Storing it would bring the ledger out of balance."""
    frame = Producer().frame("a", numbers=range(5))
    seed.park_letters(
        [DeadLetter(measurement="a", reason="old", frame=frame, events=4, minute=seed.MINUTE)]
    )
    assert "holds 5 events" in replay().details[0][1]
    assert seed.books()["numbers"] == []


@pytest.mark.parametrize("has_newer", [False, True], ids=["nothing-newer", "newer-frames-stored"])
def test_frames_that_an_older_worker_could_not_read(
    admin_databases: Databases,
    stream: Stream,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    has_newer: bool,
) -> None:
    """A rolling deploy: new producers, an old worker; its successor replays what it parked.

    Until a newer frame comes, the events are in no book; then they are booked as lost.
    """
    producer = Producer()
    frames = [
        producer.frame("a", numbers=range(2)),
        producer.frame("a", "b", numbers=range(2, 6)),
        producer.frame("b", numbers=range(6, 9)),
        producer.frame("b", numbers=range(9, 11)),
    ]
    stream.send(0, frames[:1])
    drain(stream, redis_url)
    with monkeypatch.context() as old_worker:
        old_worker.setattr(codec, "VERSION", 0)
        stream.send(0, frames[1:3])
        stream.send(0, frames[1:2])  # a retried XADD whose first reply was lost
        drain(stream, redis_url)
    if has_newer:
        stream.send(0, frames[3:])
        drain(stream, redis_url)
        assert seed.books()["dropped"] == {"redis_lost": 7}
    assert seed.books()["waiting"] == 3

    result = replay()
    assert (result.replayed, result.events, result.impossible) == (2, 7, 1)
    assert "another copy of its frame" in result.details[0][1]
    if not has_newer:
        stream.send(0, frames[3:])
        drain(stream, redis_url)
    books = seed.books()
    assert books["numbers"] == list(range(11))
    assert (books["captured"], books["stored"], books["dropped"]) == (11, 11, {})
    assert books["is_balanced"]
    assert sum(get_backend().producer_totals().values()) == 11


def test_an_unreadable_frame_of_events_that_nobody_misses_stays(
    admin_databases: Databases, stream: Stream, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored and swept by retention since, or counted otherwise: it must not come twice."""
    producer = Producer()
    frame = producer.frame("a", numbers=range(3))
    stream.send(0, [frame])
    drain(stream, redis_url)
    with monkeypatch.context() as old_worker:
        old_worker.setattr(codec, "VERSION", 0)
        stream.send(0, [frame])
        drain(stream, redis_url)
    apps.get_model("tailrace", "Event").objects.all().delete()
    result = replay()
    assert (result.replayed, result.impossible) == (0, 1)
    assert "misses no 3 events of 'a'" in result.details[0][1]
    assert seed.books()["numbers"] == []


def test_a_backend_without_dead_letters_says_so() -> None:
    """The default bodies of the contract name a backend that can."""
    from tailrace.backends.null import NullBackend

    with pytest.raises(NotSupportedByBackend, match="NullBackend does not show its dead letters"):
        NullBackend("null", {}).dead_letters(EVERYTHING)
