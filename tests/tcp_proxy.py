"""A small TCP proxy that does to connections what networks do.

    proxy = TcpProxy(server.port)
    proxy.start()
    proxy.inject(BlackHole())         # nothing gets through, nothing is refused
    proxy.heal()                      # forwards again

One fault is in force at a time, for old and new connections alike. ``UP`` is from the
client to the server, ``DOWN`` is the way back.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

UP = "up"
DOWN = "down"

CHUNK_BYTES = 65_536
CONNECT_TIMEOUT_SECONDS = 5.0
JOIN_TIMEOUT_SECONDS = 5.0
# SO_LINGER on with zero seconds: close() sends RST, not FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CutError(Exception):
    """Raised by a fault: end this connection with a reset, now."""


class Fault:
    """What happens to bytes on their way. The base class lets all of them pass."""

    def __init__(self) -> None:
        """Prepare the counter of how often the fault came true."""
        self.fired = 0
        self.lock = threading.Lock()

    def handle(self, link: Link, direction: str, data: bytes) -> bytes:
        """Return the bytes to pass on (``b""`` swallows them).

        Args:
            link: the connection; faults keep what they must remember of it in ``link.notes``.
            direction: ``UP`` or ``DOWN``.
            data: what just arrived.

        Raises:
            CutError: the connection is to be reset.
        """
        return data

    def fire(self) -> None:
        """Count that the fault came true once."""
        with self.lock:
            self.fired += 1


class BlackHole(Fault):
    """Swallow everything, both ways; connections stay open and silent."""

    def handle(self, link: Link, direction: str, data: bytes) -> bytes:
        """Swallow ``data``."""
        self.fire()
        return b""


class DropReplies(Fault):
    """Let requests reach the server and swallow every reply."""

    def handle(self, link: Link, direction: str, data: bytes) -> bytes:
        """Pass requests, swallow replies."""
        if direction == UP:
            return data
        self.fire()
        return b""


class Delay(Fault):
    """Hold every piece back for a while, in one direction."""

    def __init__(self, seconds: float, direction: str = DOWN) -> None:
        """Hold back what goes in ``direction`` for ``seconds`` a piece."""
        super().__init__()
        self.seconds = seconds
        self.direction = direction

    def handle(self, link: Link, direction: str, data: bytes) -> bytes:
        """Wait, then pass ``data``."""
        if direction == self.direction:
            self.fire()
            time.sleep(self.seconds)
        return data


class ResetAfter(Fault):
    """Pass the first ``limit_bytes`` of each connection in one direction, then reset it."""

    def __init__(self, limit_bytes: int, direction: str = UP) -> None:
        """Reset a connection that has sent ``limit_bytes`` in ``direction``."""
        super().__init__()
        self.limit_bytes = limit_bytes
        self.direction = direction

    def handle(self, link: Link, direction: str, data: bytes) -> bytes:
        """Pass what is within the limit; the rest resets the connection."""
        if direction != self.direction:
            return data
        passed = link.notes.get(self, 0)
        link.notes[self] = passed + len(data)
        if passed + len(data) <= self.limit_bytes:
            return data
        self.fire()
        link.send(direction, data[: self.limit_bytes - passed])
        raise CutError


class CutWhenSeen(Fault):
    """Reset a connection on which a byte pattern is seen.

    With ``deliver=False`` the server never gets the request. With ``deliver=True`` it gets
    the request, carries it out and answers, and the connection is reset instead of passing
    that answer on: the client cannot know what happened. (A client that pipelines loses
    the answer to the oldest request that is under way.)
    """

    def __init__(self, pattern: bytes, *, deliver: bool, times: int = 1) -> None:
        """Cut at the first ``times`` sightings of ``pattern`` in what clients send."""
        super().__init__()
        self.pattern = pattern
        self.deliver = deliver
        self.times = times
        self.seen = 0

    def handle(self, link: Link, direction: str, data: bytes) -> bytes:
        """Look for the pattern on the way up, lose the answer on the way down."""
        if direction == DOWN:
            if link.notes.get(self) is True:
                self.fire()
                raise CutError
            return data
        if self._sees(link, data):
            if not self.deliver:
                self.fire()
                raise CutError
            link.notes[self] = True
        return data

    def _sees(self, link: Link, data: bytes) -> bool:
        # A pattern may lie across two pieces: look at the last bytes again.
        window = link.tail + data
        link.tail = window[-(len(self.pattern) - 1) :] if len(self.pattern) > 1 else b""
        if self.pattern not in window:
            return False
        link.tail = b""
        with self.lock:
            self.seen += 1
            return self.seen <= self.times


class Link:
    """One connection: the client's socket, the server's, and what passed."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        """Join the two sockets."""
        self.sockets = {UP: server, DOWN: client}
        self.notes: dict[Fault, int | bool] = {}
        self.tail = b""
        self.has_lost_bytes = False
        self.is_reset = False
        self.directions_left = {UP, DOWN}

    def send(self, direction: str, data: bytes) -> None:
        """Pass ``data`` on."""
        self.sockets[direction].sendall(data)

    def reset(self) -> None:
        """End both sides with RST."""
        self.is_reset = True
        for end in self.sockets.values():
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            # shutdown() wakes the other thread out of recv(); close() alone does not.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD)
            end.close()


class TcpProxy:
    """Forward a port of 127.0.0.1 to another one, and do faults to what passes."""

    def __init__(self, target_port: int, host: str = "127.0.0.1") -> None:
        """Prepare a proxy for ``host:target_port``; ``start()`` or ``with`` starts it."""
        self.target = (host, target_port)
        self.port = 0
        self.connections = 0
        self._fault = Fault()
        self._listener: socket.socket | None = None
        self._links: set[Link] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> TcpProxy:
        """Start the proxy."""
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the proxy."""
        self.stop()

    def redis_url(self, db: int = 0) -> str:
        """Return the URL under which a Redis behind the proxy is reached."""
        return f"redis://127.0.0.1:{self.port}/{db}"

    def start(self) -> None:
        """Listen. After ``stop()`` it listens on the same port again."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._spawn(self._accept, listener)

    def stop(self) -> None:
        """Refuse new connections, reset the open ones, wait for all threads."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # accept() in the other thread returns only when the socket is shut down.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset_connections()
        with self._lock:
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(JOIN_TIMEOUT_SECONDS)

    def inject(self, fault: Fault) -> Fault:
        """Put ``fault`` in force, in place of the one before; returns it for its counters."""
        with self._lock:
            self._fault = fault
        return fault

    def heal(self) -> None:
        """Forward again. Connections that have lost bytes are reset: they cannot be mended."""
        self.inject(Fault())
        with self._lock:
            torn = [link for link in self._links if link.has_lost_bytes]
        for link in torn:
            link.reset()

    def reset_connections(self) -> None:
        """Reset every open connection."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.reset()

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        with self._lock:
            self._threads = [old for old in self._threads if old.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, CONNECT_TIMEOUT_SECONDS)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                client.close()
                continue
            server.settimeout(None)
            self._join(client, server)

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(client, server)
        with self._lock:
            self._links.add(link)
            self.connections += 1
            is_stopped = self._listener is None
        if is_stopped:
            link.reset()
        self._spawn(self._pump, link, client, UP)
        self._spawn(self._pump, link, server, DOWN)

    def _pump(self, link: Link, source: socket.socket, direction: str) -> None:
        """Move bytes in one direction until the connection ends."""
        try:
            while data := source.recv(CHUNK_BYTES):
                passed = self._fault.handle(link, direction, data)
                link.has_lost_bytes = link.has_lost_bytes or len(passed) < len(data)
                if passed:
                    link.send(direction, passed)
            # A half-closed connection still carries the other direction. (A reset wakes
            # recv() too, and a FIN must not go out before its RST.)
            if not link.is_reset:
                link.sockets[direction].shutdown(socket.SHUT_WR)
        except (OSError, CutError):
            link.reset()
        finally:
            self._leave(link, direction)

    def _leave(self, link: Link, direction: str) -> None:
        with self._lock:
            link.directions_left.discard(direction)
            if link.directions_left:
                return
            self._links.discard(link)
        for end in link.sockets.values():
            end.close()
