from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
import servers
from servers import RedisServer, ServerUnavailableError
from tcp_proxy import CutWhenSeen, TcpProxy

MakeServer = Callable[..., RedisServer]


def test_killed_server_comes_back_empty_on_the_same_port(own_redis_server: RedisServer) -> None:
    url = own_redis_server.url()
    with own_redis_server.client() as client:
        client.set("key", "value")
    own_redis_server.kill()
    assert not own_redis_server.is_running
    own_redis_server.start()
    assert own_redis_server.url() == url
    with own_redis_server.client() as client:
        assert client.dbsize() == 0


def test_restart_from_a_snapshot_goes_back_in_time(own_redis_server: RedisServer) -> None:
    with own_redis_server.client() as client:
        client.set("key", "old")
        snapshot = own_redis_server.snapshot()
        client.set("key", "new")
    own_redis_server.restart_from(snapshot)
    with own_redis_server.client() as client:
        assert client.get("key") == b"old"
    own_redis_server.restart_empty()
    with own_redis_server.client() as client:
        assert client.get("key") is None


def test_append_only_data_survives_a_kill_and_not_an_empty_restart(
    make_redis_server: MakeServer,
) -> None:
    server = make_redis_server(config={"appendonly": "yes", "appendfsync": "always"})
    with server.client() as client:
        client.set("key", "value")
    server.kill()
    server.start()
    with server.client() as client:
        assert client.get("key") == b"value"
    server.restart_empty()
    with server.client() as client:
        assert client.get("key") is None


def test_paused_server_accepts_and_does_not_answer(own_redis_server: RedisServer) -> None:
    own_redis_server.pause()
    impatient = redis.Redis.from_url(
        own_redis_server.url(), socket_timeout=0.1, retry=None, protocol=2
    )
    try:
        with pytest.raises(redis.TimeoutError):
            impatient.ping()
    finally:
        impatient.close()
    own_redis_server.resume()
    with own_redis_server.client() as client:
        assert client.ping()


def test_config_reaches_the_server(make_redis_server: MakeServer) -> None:
    server = make_redis_server(config={"maxmemory": "3mb", "maxmemory-policy": "allkeys-lru"})
    with server.client() as client:
        assert client.config_get("maxmemory*")["maxmemory-policy"] == "allkeys-lru"


def test_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RedisServer(tmp_path_factory.mktemp("s"), unix_socket=True) as server:
        with server.client(db=3) as client:
            client.set("key", "value")
        with redis.Redis.from_url(server.url(db=3)) as client:
            assert client.get("key") == b"value"


def test_too_long_a_socket_path_says_what_to_do(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / ("x" * 100), unix_socket=True)
    with pytest.raises(ServerUnavailableError, match="shorter directory"):
        server.start()


def test_wrong_flag_fails_with_the_log_of_the_server(make_redis_server: MakeServer) -> None:
    with pytest.raises(ServerUnavailableError, match="no-such-flag"):
        make_redis_server(config={"no-such-flag": "1"})


def test_does_not_mistake_a_stranger_on_the_port_for_its_own(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "stranger") as stranger:
        server = RedisServer(tmp_path / "own")
        server.port = stranger.port
        with pytest.raises(ServerUnavailableError):
            server.start()


def test_a_missing_server_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "available_programs", list)
    with pytest.raises(ServerUnavailableError, match="--group servers"):
        servers.find_program()


def test_the_program_on_path_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path(sys.prefix, 'bin')}:{tmp_path}")
    found = servers.find_program()
    assert (found.kind, found.path, found.source) == ("valkey", program, "PATH")


@pytest.mark.parametrize("program", servers.available_programs(), ids=lambda p: p.source)
def test_every_server_of_this_machine_has_what_the_pipeline_needs(
    make_redis_server: MakeServer, program: servers.ServerProgram
) -> None:
    server = make_redis_server(program=program)
    with server.client() as client:
        ids = [client.xadd("stream", {"frame": b"\x00\xff"}) for _ in range(3)]
        assert client.xtrim("stream", minid=ids[2], approximate=False) == 2
        assert client.xrange("stream") == [(ids[2], {b"frame": b"\x00\xff"})]


def test_a_lost_reply_of_an_xadd_leaves_the_entry_in_the_stream(
    own_redis_server: RedisServer, make_proxy: Callable[[int], TcpProxy]
) -> None:
    proxy = make_proxy(own_redis_server.port)
    client = redis.Redis.from_url(proxy.redis_url(), retry=None, socket_timeout=2)
    try:
        client.ping()
        fault = proxy.inject(CutWhenSeen(b"XADD", deliver=True))
        with pytest.raises(redis.ConnectionError):
            client.xadd("stream", {"frame": b"x" * 200_000})
    finally:
        client.close()
    assert fault.fired == 1
    with own_redis_server.client() as direct:
        assert direct.xlen("stream") == 1


def test_free_port_is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", servers.free_port()))
