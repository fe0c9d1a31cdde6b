"""One test over both streams: what the suite's double does, the real one does as well."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import RedisServer

from tailrace.backends.testing import MemoryStream
from tailrace.pipeline.config import Config
from tailrace.pipeline.errors import StreamFull
from tailrace.pipeline.stream import START, Stream, id_key, id_seconds


def public_methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }


@pytest.fixture(params=["memory", "redis"])
def make_stream(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []
    url = request.getfixturevalue("redis_url") if request.param == "redis" else "redis://none"

    def make(**settings: Any) -> Any:
        kind = Stream if request.param == "redis" else MemoryStream
        made.append(kind(Config(redis_url=url, **settings), 5.0))
        return made[-1]

    yield make
    for stream in made:
        stream.close()


@pytest.fixture
def stream(make_stream: Callable[..., Any]) -> Any:
    return make_stream()


def test_the_double_has_the_same_public_methods() -> None:
    real, double = public_methods(Stream), public_methods(MemoryStream)
    for name, signature in real.items():
        assert name in double, (
            f"MemoryStream lacks {name}(): add it in backends/testing/stream.py, and to the "
            "tests here"
        )
        assert list(double[name].parameters) == list(signature.parameters), name
    extra = double.keys() - real.keys()
    assert extra == {"lose_memory", "snapshot", "restore", "expire_leases"}


def test_an_empty_shard(stream: Any) -> None:
    state = stream.state(0)
    assert state.epoch
    assert (state.last_id, state.trimmed_through, state.has_positions) == (START, START, False)
    assert stream.state(0) == state
    assert stream.read(0, START, 10) == []
    assert (stream.length(0), stream.trim(0, ["a"])) == (0, 0)
    assert not stream.leased(0, "a")
    stream.make_room(0)


def test_entries_are_read_in_order_and_after_a_position(stream: Any) -> None:
    token = stream.send(0, [b"1", b"2"])
    assert stream.send(0, [b"3"]) == token
    stream.send(1, [b"other shard"])
    entries = stream.read(0, START, 10)
    assert [entry.frame for entry in entries] == [b"1", b"2", b"3"]
    keys = [id_key(entry.id) for entry in entries]
    assert keys == sorted(set(keys))
    assert stream.read(0, START, 2) == entries[:2]
    assert stream.read(0, entries[0].id, 10) == entries[1:]
    assert stream.read(0, entries[2].id, 10) == []
    assert stream.state(0).last_id == entries[2].id
    assert stream.length(0) == 3
    assert abs(id_seconds(entries[0].id) - time.time()) < 60
    assert abs(stream.time() - time.time()) < 60


def test_trim_keeps_what_any_backend_lacks(stream: Any) -> None:
    stream.send(0, [b"1", b"2", b"3"])
    ids = [entry.id for entry in stream.read(0, START, 10)]
    stream.publish_position(0, "a", ids[1])
    assert stream.state(0).has_positions
    assert not stream.state(1).has_positions
    assert stream.trim(0, ["a", "b"]) == 0, "b has not said anything yet"
    stream.publish_position(0, "b", ids[0])
    assert stream.trim(0, ["a", "b"]) == 1
    assert stream.trim(0, ["a"]) == 1
    assert [entry.frame for entry in stream.read(0, START, 10)] == [b"3"]
    assert stream.state(0).last_id == ids[2], "trimming is no loss of memory"
    stream.publish_position(0, "a", ids[2])
    assert stream.trim(0, ["a"]) == 1
    assert stream.state(0).last_id == ids[2]


def test_one_lease_a_shard_and_backend(stream: Any) -> None:
    with stream.lease(0, "a", 10) as is_ours:
        assert is_ours
        assert stream.leased(0, "a")
        assert not stream.leased(0, "b")
        with stream.lease(0, "a", 10) as is_ours_too, stream.lease(1, "a", 10) as other:
            assert (is_ours_too, other) == (False, True)
        assert stream.leased(0, "a"), "who did not get the lease does not give it back"
    assert not stream.leased(0, "a")


def test_a_lease_runs_out_unless_it_is_renewed(stream: Any) -> None:
    with stream.lease(0, "a", 0.05):
        stream.renew_lease(0, "a", 10)
        time.sleep(0.1)
        assert stream.leased(0, "a")
        stream.renew_lease(0, "a", 0.05)
        time.sleep(0.1)
        assert not stream.leased(0, "a")
        with stream.lease(0, "a", 10) as is_ours:
            assert is_ours


def fill(stream: Any, frame: bytes) -> None:
    for _ in range(1000):
        stream.send(0, [frame] * 8)


def test_a_full_shard_refuses_until_there_is_room(make_stream: Callable[..., Any]) -> None:
    stream = make_stream(shards=1, stream_max_bytes=2**16)
    frame = b"x" * 1000
    with pytest.raises(StreamFull):
        fill(stream, frame)
    full = stream.length(0)
    assert 40 <= full < 100
    first = stream.read(0, START, 1)[0]
    stream.make_room(0)
    kept = stream.read(0, START, 1)[0]
    assert stream.length(0) < full
    assert id_key(first.id) <= id_key(stream.state(0).trimmed_through) < id_key(kept.id)
    assert stream.memory_bytes(0) <= 2**16 * 0.95
    stream.send(0, [frame])


@pytest.fixture(params=["memory", "redis"])
def lost(request: pytest.FixtureRequest) -> tuple[Any, Callable[[], None]]:
    """A stream, and what makes it lose its memory."""
    if request.param == "memory":
        double = MemoryStream(Config())
        return double, double.lose_memory
    server: RedisServer = request.getfixturevalue("own_redis_server")
    return Stream(Config(redis_url=server.url()), 5.0), server.restart_empty


def test_lost_memory_shows(lost: tuple[Any, Callable[[], None]]) -> None:
    """Also to the one process that saw the old memory, and made its token."""
    stream, lose = lost
    token = stream.send(0, [b"1"])
    before = stream.state(0)
    lose()
    assert stream.read(0, START, 10) == []
    after = stream.state(0)
    assert after.epoch != before.epoch
    assert after.last_id == START
    assert stream.memory_token(0) != token
    stream.send(0, [b"2"])
    assert [entry.frame for entry in stream.read(0, START, 10)] == [b"2"]
    stream.close()


@pytest.fixture(params=["memory", "redis"])
def rewound(request: pytest.FixtureRequest) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
    """A stream, what takes a snapshot of it, and what restores it."""
    if request.param == "memory":
        double = MemoryStream(Config())
        return double, double.snapshot, double.restore
    server: RedisServer = request.getfixturevalue("own_redis_server")
    stream = Stream(Config(redis_url=server.url()), 5.0)
    return stream, server.snapshot, server.restart_from


def test_an_older_snapshot_has_the_old_epoch_and_last_id(rewound: tuple[Any, Any, Any]) -> None:
    stream, snapshot, restore = rewound
    stream.send(0, [b"1"])
    before = stream.state(0)
    kept = snapshot()
    token = stream.send(0, [b"2"])
    restore(kept)
    assert stream.read(0, START, 1), "a client may fail once after a restart"
    assert stream.state(0) == before
    assert [entry.frame for entry in stream.read(0, START, 10)] == [b"1"]
    assert stream.memory_token(0) != token
    stream.close()
