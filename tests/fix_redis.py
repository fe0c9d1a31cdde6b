"""Fixtures: a private Redis for the whole run, and one of its own for a test that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import redis
from servers import RedisServer, ServerProgram, available_programs, find_program
from tcp_proxy import TcpProxy


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller choose which server the run uses."""
    parser.addoption(
        "--redis-server",
        choices=["redis", "valkey", "PATH", *(program.source for program in available_programs())],
        help="server to test with: a kind, or where it comes from (default: the first found)",
    )


def pytest_report_header(config: pytest.Config) -> str:
    """Name the server in the first lines of the report."""
    program = chosen_program(config)
    return f"redis: {program.kind} from {program.source}"


def chosen_program(config: pytest.Config) -> ServerProgram:
    """Return the server program that ``--redis-server`` asks for."""
    choice = config.getoption("--redis-server")
    if choice in ("redis", "valkey"):
        return find_program(kind=choice)
    return find_program(source=choice)


@pytest.fixture(scope="session")
def redis_server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A server that all tests share; do no harm to it (see ``own_redis_server``)."""
    directory = tmp_path_factory.mktemp("redis")
    with RedisServer(directory, program=chosen_program(pytestconfig)) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of the shared server, emptied before the test."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url()


@pytest.fixture
def redis_client(redis_server: RedisServer, redis_url: str) -> Iterator[redis.Redis]:
    """A client of the shared server, emptied before the test."""
    with redis_server.client() as client:
        yield client


@pytest.fixture
def make_redis_server(
    pytestconfig: pytest.Config, tmp_path: Path
) -> Iterator[Callable[..., RedisServer]]:
    """Start servers of the test's own: ``make_redis_server(config={"maxmemory": "10mb"})``."""
    servers: list[RedisServer] = []

    def make(
        config: Mapping[str, str] | None = None, program: ServerProgram | None = None
    ) -> RedisServer:
        server = RedisServer(
            tmp_path / f"redis-{len(servers)}",
            config=config,
            program=program or chosen_program(pytestconfig),
        )
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def own_redis_server(make_redis_server: Callable[..., RedisServer]) -> RedisServer:
    """A server of the test's own: kill it, pause it, empty it."""
    return make_redis_server()


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], TcpProxy]]:
    """Start proxies in front of ports of 127.0.0.1: ``make_proxy(server.port)``."""
    proxies: list[TcpProxy] = []

    def make(port: int) -> TcpProxy:
        proxy = TcpProxy(port)
        proxies.append(proxy)
        proxy.start()
        return proxy

    yield make
    for proxy in proxies:
        proxy.stop()
