"""What docs/deployment.md says of users with few rights in Redis, on a real server.

The rules are taken from the document itself: what is tested is what people copy.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from servers import RedisServer

from tailrace.backends.memory import MemoryBackend
from tailrace.pipeline.buffer import Buffer
from tailrace.pipeline.config import Config
from tailrace.pipeline.errors import StreamUnavailable
from tailrace.pipeline.flusher import Flusher
from tailrace.pipeline.runtime import Runtime

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"
WEB, WORKER = "tailrace-web", "tailrace-worker"
WITHOUT_DROP_OLDEST = {"+xlen", "+xrange", "+xtrim"}
STREAM = "tailrace:{0}:stream"
# The client tells its name where the server knows the command; a refusal is what it expects.
REFUSED_IN_ORDER = {"client|setinfo", "client"}
MEASUREMENT = "acl.test"


def _documented_users() -> dict[str, list[str]]:
    lines = re.findall(r"^user (\S+) (on .+)$", DOCUMENT.read_text(), re.M)
    return {name: rules.split() for name, rules in lines}


class Users:
    """A server with the documented users, and clients that are them."""

    def __init__(self, server: RedisServer, directory: Path) -> None:
        self.server = server
        self._directory = directory

    def add(self, name: str, rules: Sequence[str]) -> None:
        with self.server.client() as client:
            client.execute_command("ACL", "SETUSER", name, "reset", *rules)

    def url(self, name: str, rules: Sequence[str]) -> str:
        password = next(rule[1:] for rule in rules if rule.startswith(">"))
        return f"redis://{name}:{password}@127.0.0.1:{self.server.port}/0"

    def config(self, name: str, **settings: Any) -> Config:
        return Config(
            redis_url=self.url(name, _documented_users()[name]),
            redis_timeout_seconds=2.0,  # not what is tested here
            spool_dir=str(self._directory / "spool"),
            **settings,
        )

    def refused(self) -> set[str]:
        """Return the commands and keys that the server has refused."""
        with self.server.client() as client:
            log = client.execute_command("ACL", "LOG", 1000)
        return {_field(item, "object") for item in log} - REFUSED_IN_ORDER


def _field(item: Any, name: str) -> str:
    if isinstance(item, list):
        item = dict(zip(item[::2], item[1::2], strict=True))
    texts = {_text(key): value for key, value in item.items()}
    return _text(texts[name])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.fixture
def users(own_redis_server: RedisServer, tmp_path: Path) -> Users:
    made = Users(own_redis_server, tmp_path)
    documented = _documented_users()
    assert documented.keys() == {WEB, WORKER}, "docs/deployment.md has lost its users"
    for name, rules in documented.items():
        made.add(name, rules)
    return made


@pytest.fixture
def login(users: Users) -> Any:
    """Plain clients that are one of the documented users."""
    clients: list[redis.Redis] = []

    def make(name: str) -> redis.Redis:
        clients.append(redis.Redis.from_url(users.config(name).redis_url, socket_timeout=5))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


class WebProcess:
    """What a web process does with the events that it records."""

    def __init__(self, config: Config) -> None:
        self._buffer = Buffer(config)
        self._flusher = Flusher(config, self._buffer)

    def send(self, numbers: range) -> bool:
        """Record an event for each number; return whether all has left this process."""
        for start in range(numbers.start, numbers.stop, 500):
            for number in range(start, min(start + 500, numbers.stop)):
                self._buffer.append((MEASUREMENT, time.time_ns(), {}, {"n": number}, None))
            all_sent = self._flusher.flush(10)
        return all_sent

    def close(self) -> None:
        self._flusher.close(5)


def _send(config: Config, numbers: range) -> bool:
    """Send from the first event of a process to its end."""
    process = WebProcess(config)
    all_sent = process.send(numbers)
    process.close()
    return all_sent


def _drain(config: Config) -> tuple[MemoryBackend, Runtime]:
    backend = MemoryBackend("default", {})
    runtime = Runtime(config, lambda alias: backend)
    for alias, shard in list(runtime.pending()):
        runtime.drain(alias, shard)
    return backend, runtime


def test_a_web_process_sends_and_a_worker_drains(users: Users) -> None:
    assert _send(users.config(WEB), range(5_000))
    backend, runtime = _drain(users.config(WORKER))
    assert sorted(event.fields["n"] for event in backend.events()) == list(range(5_000))
    assert runtime.balance("default").is_balanced
    assert all(status.depth == 0 for status in runtime.status("default"))
    assert runtime.stream.server_info()["maxmemory_policy"] == "noeviction"
    runtime.close()
    assert users.refused() == set(), "the document forgets what we need"


def test_a_worker_records_as_a_web_process_does(users: Users) -> None:
    assert _send(users.config(WORKER), range(1_000))
    assert users.refused() == set()


def test_a_web_process_makes_room_in_a_full_stream(users: Users) -> None:
    settings = {"stream_max_bytes": 2**16, "shards": 1}
    assert _send(users.config(WEB, **settings), range(40_000))
    _, runtime = _drain(users.config(WORKER, **settings))
    balance = runtime.balance("default")
    runtime.close()
    assert balance.captured == 40_000
    assert balance.is_balanced
    assert balance.dropped["stream_trimmed"] > 0, "the stream was never full"
    assert users.refused() == set()


def test_without_dropping_the_oldest_a_web_process_reads_and_removes_nothing(
    users: Users, login: Callable[[str], redis.Redis]
) -> None:
    rules = [rule for rule in _documented_users()[WEB] if rule not in WITHOUT_DROP_OLDEST]
    users.add(WEB, rules)
    settings: dict[str, Any] = {"stream_max_bytes": 2**16, "shards": 1, "overflow": "drop_newest"}
    process = WebProcess(users.config(WEB, **settings))
    process.send(range(40_000))
    backend, runtime = _drain(users.config(WORKER, **settings))
    assert 0 < len(backend.events()) < 40_000, "the stream was never full"
    time.sleep(1.1)  # a sender looks once a second whether there is room again
    process.send(range(40_000, 40_001))
    process.close()
    runtime.drain("default", 0)
    balance = runtime.balance("default")
    runtime.close()
    assert balance.captured == 40_001
    assert balance.is_balanced
    assert balance.dropped["stream_full"] == 40_001 - len(backend.events())
    assert users.refused() == set()
    client = login(WEB)
    for command in (("XLEN", STREAM), ("XRANGE", STREAM, "-", "+"), ("XTRIM", STREAM, "MAXLEN", 0)):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


@pytest.mark.parametrize(
    "command",
    [
        ("DEL", STREAM),
        ("XREAD", "STREAMS", STREAM, "0"),
        ("XDEL", STREAM, "1-1"),
        ("XADD", "celery", "*", "f", "x"),
        ("XADD", "tailrace:{0}:positions", "*", "f", "x"),
        ("SET", "session:1", "x"),
        ("GET", "session:1"),
        ("GET", "tailrace:{0}:lease:default"),
        ("HSET", "tailrace:{0}:positions", "default", "9-9"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("INFO",),
        ("CONFIG", "GET", "*"),
        ("CLIENT", "LIST"),
        ("ACL", "WHOAMI"),
        ("EVAL", "return 1", "0"),
        ("PUBLISH", "channel", "x"),
        ("FLUSHALL",),
        ("SHUTDOWN",),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_web_process_can_do_nothing_else(
    users: Users, login: Callable[[str], redis.Redis], command: tuple[str, ...]
) -> None:
    assert _send(users.config(WEB), range(10))
    with pytest.raises(redis.exceptions.NoPermissionError):
        login(WEB).execute_command(*command)


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "session:1"),
        ("SET", "celery", "x"),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("EVAL", "return 1", "0"),
        ("FLUSHALL",),
        ("SHUTDOWN",),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_worker_can_do_nothing_else(
    login: Callable[[str], redis.Redis], command: tuple[str, ...]
) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        login(WORKER).execute_command(*command)


def test_a_command_that_is_missing_is_noticed(users: Users) -> None:
    """The tests above can fail: without a right that it needs, the drain says so."""
    users.add(WORKER, [rule for rule in _documented_users()[WORKER] if rule != "+hmget"])
    assert _send(users.config(WEB), range(10))
    with pytest.raises(StreamUnavailable, match="refused a command"):
        _drain(users.config(WORKER))
    assert users.refused() == {"hmget"}
