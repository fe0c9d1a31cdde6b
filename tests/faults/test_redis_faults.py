"""Redis dies, forgets, goes back in time, or answers no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.harness import MEASUREMENT, Sender, Site
from servers import RedisServer
from tcp_proxy import BlackHole, CutWhenSeen, TcpProxy

from tailrace.pipeline import recording
from tailrace.pipeline.config import Config

pytestmark = pytest.mark.faults

MakeProxy = Callable[[int], TcpProxy]


@pytest.fixture
def proxy(make_proxy: MakeProxy, own_redis_server: RedisServer) -> TcpProxy:
    return make_proxy(own_redis_server.port)


def _sender(proxy: TcpProxy, directory: Path, **settings: object) -> Sender:
    url = f"redis://127.0.0.1:{proxy.port}/0"
    return Sender(url, directory / "spool", **settings)


def _send_until_in_redis(sender: Sender, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not sender.flusher.flush(5):
        assert time.monotonic() < deadline, "the backlog was not sent"
        time.sleep(0.1)


def _entries(server: RedisServer) -> int:
    with server.client() as client:
        return sum(client.xlen(f"tailrace:{{{k}}}:stream") for k in range(4))


def test_an_xadd_whose_reply_is_lost_is_retried_and_stored_once(
    site: Site, own_redis_server: RedisServer, proxy: TcpProxy
) -> None:
    sender = _sender(proxy, site.directory)
    sender.send(range(10))
    fault = CutWhenSeen(b"XADD", deliver=True)
    proxy.inject(fault)
    assert not sender.send(range(10, 3_000)), "the reply was to be lost"
    proxy.heal()
    _send_until_in_redis(sender)
    assert fault.fired
    sender.close()
    assert _entries(own_redis_server) > 1 + 6 + 4, "Redis has no copies: the test proves nothing"
    site.drain()
    site.assert_each_once(range(3_000))
    site.assert_balanced(captured=3_000, stored=3_000)


def test_redis_restarted_empty_is_counted_to_the_event(
    site: Site, own_redis_server: RedisServer
) -> None:
    site.sender.send(range(1_000))
    site.drain()
    site.sender.send(range(1_000, 2_234))
    own_redis_server.restart_empty()
    site.sender.send(range(2_234, 2_300))
    _send_until_in_redis(site.sender)
    site.drain()
    site.assert_each_once([*range(1_000), *range(2_234, 2_300)])
    site.assert_balanced(captured=2_300, stored=1_066, dropped={"redis_lost": 1_234})


def test_redis_restarted_empty_before_the_first_drain(
    sqlite_site: Site, own_redis_server: RedisServer
) -> None:
    sqlite_site.sender.send(range(700))
    own_redis_server.restart_empty()
    sqlite_site.sender.send(range(700, 710))
    _send_until_in_redis(sqlite_site.sender)
    # Frames of the other shards had no successor; the goodbye shows what they held.
    sqlite_site.sender.close()
    sqlite_site.drain()
    sqlite_site.assert_each_once(range(700, 710))
    sqlite_site.assert_balanced(captured=710, stored=10, dropped={"redis_lost": 700})


def test_a_loss_shows_even_if_nothing_is_recorded_any_more(
    sqlite_site: Site, own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.pipeline.flusher._MEMORY_CHECK_SECONDS", 0.1)
    sqlite_site.sender.send(range(100))
    own_redis_server.restart_empty()
    sqlite_site.drain()  # an idle worker is enough to give the new memory its token
    deadline = time.monotonic() + 15
    while not _entries(own_redis_server):
        assert time.monotonic() < deadline, "the flusher did not notice"
        time.sleep(0.2)
        sqlite_site.sender.flusher.flush(5)
    sqlite_site.drain()
    sqlite_site.assert_balanced(captured=100, dropped={"redis_lost": 100})


def test_redis_restored_from_an_older_snapshot(site: Site, own_redis_server: RedisServer) -> None:
    site.sender.send(range(500))
    snapshot = own_redis_server.snapshot()
    site.sender.send(range(500, 800))
    site.drain()  # these 800 are stored; the snapshot still has the first 500
    site.sender.send(range(800, 1_500))
    own_redis_server.restart_from(snapshot)
    site.sender.send(range(1_500, 1_600))
    _send_until_in_redis(site.sender)
    site.drain()
    site.assert_each_once([*range(800), *range(1_500, 1_600)])
    site.assert_balanced(captured=1_600, stored=900, dropped={"redis_lost": 700})


def test_redis_down_and_back_loses_nothing(site: Site, own_redis_server: RedisServer) -> None:
    site.sender.send(range(100))
    site.drain()
    own_redis_server.stop()
    for start in range(100, 20_000, 995):
        assert not site.sender.send(range(start, min(start + 995, 20_000)))
    own_redis_server.start()
    _send_until_in_redis(site.sender)
    site.drain()
    site.assert_each_once(range(20_000))
    site.assert_balanced(captured=20_000, stored=20_000)


def test_a_process_that_ends_while_redis_is_down_leaves_its_events_to_the_next(
    sqlite_site: Site, own_redis_server: RedisServer
) -> None:
    own_redis_server.stop()
    first = Sender(own_redis_server.url(), sqlite_site.spool)
    first.send(range(600))
    first.close()
    own_redis_server.start()
    sqlite_site.sender.send(range(600, 610))
    _send_until_in_redis(sqlite_site.sender)
    sqlite_site.drain()
    sqlite_site.assert_each_once(range(610))
    sqlite_site.assert_balanced(captured=610, stored=610)


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_full_spool_is_counted_to_the_event(
    sqlite_site: Site, own_redis_server: RedisServer, overflow: str
) -> None:
    own_redis_server.stop()
    sender = Sender(
        own_redis_server.url(), sqlite_site.spool, overflow=overflow, spool_max_bytes=2**16
    )
    for start in range(0, 30_000, 500):
        sender.send(range(start, start + 500))
    own_redis_server.start()
    _send_until_in_redis(sender)
    sender.close()
    sqlite_site.drain()
    stored = sqlite_site.stored()
    assert 0 < len(stored) < 30_000
    assert set(stored.values()) == {1}
    assert (0 in stored) == (overflow == "drop_newest")
    dropped = {"spool_full": 30_000 - len(stored)}
    sqlite_site.assert_balanced(captured=30_000, stored=len(stored), dropped=dropped)


def test_what_a_dead_process_left_and_a_full_spool_drops_is_counted(
    sqlite_site: Site, own_redis_server: RedisServer
) -> None:
    own_redis_server.stop()
    size = 2**16
    first = Sender(own_redis_server.url(), sqlite_site.spool, spool_max_bytes=size)
    for start in range(0, 3_000, 500):
        first.send(range(start, start + 500))
    first.close()
    second = Sender(own_redis_server.url(), sqlite_site.spool, spool_max_bytes=size)
    for start in range(3_000, 30_000, 500):
        second.send(range(start, start + 500))
    own_redis_server.start()
    _send_until_in_redis(second)
    second.close()
    sqlite_site.drain()
    stored = len(sqlite_site.stored())
    ledger = sqlite_site.status()["ledger"][MEASUREMENT]
    assert ledger["captured"] == 30_000
    assert ledger["stored"] == stored
    assert sum(ledger["dropped"].values()) == 30_000 - stored


def test_a_full_redis_drops_the_oldest_and_says_how_many(
    sqlite_site: Site, own_redis_server: RedisServer
) -> None:
    sender = Sender(own_redis_server.url(), sqlite_site.spool, stream_max_bytes=2**16, shards=1)
    for start in range(0, 60_000, 500):
        sender.send(range(start, start + 500))
        time.sleep(0.02)  # the bound is looked at once a second
    sender.close()
    sqlite_site.drain()
    stored = sqlite_site.stored()
    assert 0 < len(stored) < 60_000
    assert 59_999 in stored
    dropped = {"stream_trimmed": 60_000 - len(stored)}
    sqlite_site.assert_balanced(captured=60_000, stored=len(stored), dropped=dropped)


def test_a_redis_out_of_memory_keeps_its_other_users_working(
    sqlite_site: Site, make_redis_server: Callable[..., RedisServer]
) -> None:
    server = make_redis_server({"maxmemory-policy": "noeviction"})
    # 150 KB for us, by our own bound, in a Redis that has 2 MB left for everybody.
    sender = Sender(server.url(), sqlite_site.spool, shards=1, stream_max_bytes=150_000)
    with server.client() as client:
        limit = client.info("memory")["used_memory"] + 2 * 2**20
        client.config_set("maxmemory", limit)
        for start in range(0, 100_000, 500):
            sender.send(range(start, start + 500))
            client.rpush("celery", "a task of the host")
        assert client.llen("celery") == 200
    sender.close()


@pytest.mark.parametrize("seconds", [4])
def test_a_black_hole_costs_the_recording_thread_nothing(
    tmp_path: Path, proxy: TcpProxy, seconds: float
) -> None:
    """Black-holed for 60 s in the soak, for 4 s here."""
    proxy.inject(BlackHole())
    config = Config(
        redis_url=f"redis://127.0.0.1:{proxy.port}/0",
        spool_dir=str(tmp_path / "spool"),
        buffer_max_events=5_000,
    )
    recording.configure(config)
    try:
        slowest = _slowest_record(seconds)
        # A pause of the interpreter lock is possible at any line; a time-out would be 50 ms.
        assert slowest < 0.05, f"record() took {slowest * 1000:.1f} ms"
        proxy.heal()
        deadline = time.monotonic() + 20
        while not recording.flush(5):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        recording.configure(None)


def _slowest_record(seconds: float) -> float:
    slowest = 0.0
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        recording.record(MEASUREMENT, fields={"n": 1})
        slowest = max(slowest, time.perf_counter() - started)
        time.sleep(0.001)
    return slowest
