"""The whole path on a Redis Cluster: each shard's keys lie together, transactions work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from servers import RedisServer

from tailrace.backends.memory import MemoryBackend
from tailrace.pipeline.buffer import Buffer
from tailrace.pipeline.config import Config
from tailrace.pipeline.flusher import Flusher
from tailrace.pipeline.runtime import Runtime

SLOTS = 16384


@pytest.fixture
def cluster(make_redis_server: Callable[..., RedisServer]) -> RedisServer:
    """Two masters with half of the slots each; returns the first."""
    servers = [make_redis_server({"cluster-enabled": "yes"}) for _ in range(2)]
    half = SLOTS // 2
    for server, (first, last) in zip(servers, [(0, half - 1), (half, SLOTS - 1)], strict=True):
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
    with servers[0].client() as client:
        client.execute_command("CLUSTER MEET", "127.0.0.1", servers[1].port)
    deadline = time.monotonic() + 30
    for server in servers:
        with server.client() as client:
            while "cluster_state:ok" not in _info(client):
                assert time.monotonic() < deadline, _info(client)
                time.sleep(0.1)
    return servers[0]


def _info(client: object) -> str:
    answer = client.execute_command("CLUSTER INFO")  # type: ignore[attr-defined]
    if isinstance(answer, dict):
        return "\n".join(f"{name}:{text}" for name, text in answer.items())
    return answer.decode() if isinstance(answer, bytes) else str(answer)


@pytest.mark.skipif(
    int(redis.__version__.partition(".")[0]) < 6, reason="redis-py has no cluster transactions yet"
)
def test_events_go_through_a_cluster_once(cluster: RedisServer, tmp_path: Path) -> None:
    config = Config(
        redis_url=cluster.url(),
        redis_cluster=True,
        redis_timeout_seconds=1.0,
        spool_dir=str(tmp_path / "spool"),
    )
    buffer = Buffer(config)
    flusher = Flusher(config, buffer)
    for number in range(5_000):
        buffer.append(("cluster.test", time.time_ns(), {}, {"n": number}, None))
    assert flusher.flush(10)
    flusher.close(5)
    backend = MemoryBackend("default", {})
    runtime = Runtime(config, lambda alias: backend)
    drained = {shard: runtime.drain("default", shard) for shard in runtime.shards}
    assert sum(result.events for result in drained.values()) == 5_000
    assert all(result.events for result in drained.values()), "one shard was never used"
    assert sorted(event.fields["n"] for event in backend.events()) == list(range(5_000))
    assert runtime.balance("default").is_balanced
    assert sum(runtime.stream.length(shard) for shard in runtime.shards) == 0
    runtime.close()
