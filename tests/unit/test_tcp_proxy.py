from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest
from tcp_proxy import UP, BlackHole, CutWhenSeen, Delay, DropReplies, ResetAfter, TcpProxy

TIMEOUT_SECONDS = 2.0


class EchoServer(socketserver.ThreadingTCPServer):
    """Answers each line with the same line, and remembers what it got."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.received: list[bytes] = []
        super().__init__(("127.0.0.1", 0), EchoHandler)


class EchoHandler(socketserver.StreamRequestHandler):
    server: EchoServer

    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.server.received.append(line)
                self.wfile.write(line)
        except OSError:
            return


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[TcpProxy]:
    with TcpProxy(echo.server_address[1]) as proxy:
        yield proxy


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_SECONDS)


def ask(client: socket.socket, line: bytes) -> bytes:
    client.sendall(line)
    return client.recv(1000)


def test_forwards_both_ways(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        assert ask(client, b"one\n") == b"one\n"
        assert ask(client, b"two\n") == b"two\n"
    assert proxy.connections == 1


def test_passes_on_that_the_client_has_finished(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"last\n")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1000) == b"last\n"
        assert client.recv(1000) == b""


def test_a_black_hole_is_silent_and_heals_with_a_reset(echo: EchoServer, proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        ask(client, b"before\n")
        proxy.inject(BlackHole())
        client.sendall(b"lost\n")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1000)
        proxy.heal()
        client.settimeout(TIMEOUT_SECONDS)
        with pytest.raises(ConnectionResetError):
            client.recv(1000)
    with connect(proxy) as client:
        assert ask(client, b"after\n") == b"after\n"
    assert echo.received == [b"before\n", b"after\n"]


def test_dropped_replies_belong_to_requests_that_arrived(echo: EchoServer, proxy: TcpProxy) -> None:
    fault = proxy.inject(DropReplies())
    with connect(proxy) as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(client, b"done\n")
    assert echo.received == [b"done\n"]
    assert fault.fired == 1


def test_a_delay_holds_replies_back(proxy: TcpProxy) -> None:
    proxy.inject(Delay(0.15))
    with connect(proxy) as client:
        started = time.monotonic()
        assert ask(client, b"slow\n") == b"slow\n"
        assert time.monotonic() - started >= 0.15


def test_resets_after_exactly_so_many_bytes(echo: EchoServer, proxy: TcpProxy) -> None:
    proxy.inject(ResetAfter(6, UP))
    with connect(proxy) as client:
        assert ask(client, b"12345\n") == b"12345\n"
        with pytest.raises(ConnectionResetError):
            ask(client, b"6\n")
    assert echo.received == [b"12345\n"]


@pytest.mark.parametrize("pieces", [(b"say COMMIT\n",), (b"say COM", b"MIT\n")])
def test_cut_with_delivery_loses_only_the_answer(
    echo: EchoServer, proxy: TcpProxy, pieces: tuple[bytes, ...]
) -> None:
    fault = proxy.inject(CutWhenSeen(b"COMMIT", deliver=True))
    with connect(proxy) as client:
        assert ask(client, b"hello\n") == b"hello\n"
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            client.recv(1000)
    assert echo.received == [b"hello\n", b"say COMMIT\n"]
    assert fault.fired == 1
    with connect(proxy) as client:
        assert ask(client, b"say COMMIT\n") == b"say COMMIT\n", "fires once only"


def test_cut_without_delivery_keeps_the_request_from_the_server(
    echo: EchoServer, proxy: TcpProxy
) -> None:
    proxy.inject(CutWhenSeen(b"COMMIT", deliver=False))
    with connect(proxy) as client, pytest.raises(ConnectionResetError):
        ask(client, b"COMMIT\n")
    assert echo.received == []


def test_a_stopped_proxy_refuses_and_comes_back_on_the_same_port(proxy: TcpProxy) -> None:
    port = proxy.port
    proxy.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.start()
    assert proxy.port == port
    with connect(proxy) as client:
        assert ask(client, b"again\n") == b"again\n"
