"""Requests to an InfluxDB server: connections, time limits and further attempts.

The only module that knows influxdb-client, of which it uses the connection pool with its TLS
options. The client's own ways to write are not used: ``WriteApi`` collects points in memory and
only logs those it could not send, and its ``flush()`` is empty.

What an answer means is said in ``answers.py``.
"""

from __future__ import annotations

import io
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from influxdb_client import InfluxDBClient
from urllib3.exceptions import HTTPError, SSLError

from tailrace.pipeline.errors import (
    BackendMisconfigured,
    TransientBackendError,
)
from tailrace.pipeline.faults import fault

from .answers import Answer, check

WRITE_PATH = "/api/v2/write"
_CONNECTIONS = 10
_ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 0.05
_LINE_BYTES = 65_536


@dataclass(frozen=True)
class Server:
    """Where the server is, and how to talk to it."""

    url: str
    token: str = ""
    org: str = ""
    timeout_seconds: float = 10.0
    verify_ssl: bool = True
    ssl_ca_cert: str | None = None
    cert_file: str | None = None
    cert_key_file: str | None = None

    @property
    def shown(self) -> str:
        """The address as messages may have it: no token, no password, no query."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


class InfluxApi:
    """Calls one server. Threads share it; a forked child gets connections of its own."""

    def __init__(self, server: Server) -> None:
        """Connect to nothing yet."""
        self.server = server
        self._lock = threading.Lock()
        self._client: InfluxDBClient | None = None
        self._pid = 0
        self._wait_until = 0.0

    def close(self) -> None:
        """Close the connections; they open again when they are needed."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def check_wait(self) -> None:
        """Raise if the server has told us to come later, and it is not later yet.

        Raises:
            TransientBackendError: with the seconds that are left.
        """
        left = self._wait_until - time.monotonic()
        if left > 0:
            raise TransientBackendError(
                f"InfluxDB at {self.server.shown} asked for a pause: {left:.1f} s to go", left
            )

    def call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return the answer to it, once it is a good one.

        Args:
            method: ``GET``, ``POST``, ``PATCH`` or ``DELETE``; one that may be sent twice.
            path: From the server's URL on.
            parameters: For the query.
            body: As it is sent.
            headers: Beside the token.

        Raises:
            TooLarge, Malformed, PartlyRefused, BackendMisconfigured, TransientBackendError: see
                ``answers.py``.
        """
        self.check_wait()
        for attempt in range(_ATTEMPTS):
            try:
                with self._sent(method, path, parameters, body, headers) as response:
                    if path == WRITE_PATH:
                        fault("influx_sent")
                    answer = Answer(response.status, response.headers, response.data)
                check(answer, self.server.shown)
            except TransientBackendError as error:
                if error.retry_after_seconds > 0:
                    # Tasks come again every second; they are not to ask before it is time.
                    self._wait_until = time.monotonic() + error.retry_after_seconds
                    raise
                if attempt == _ATTEMPTS - 1:
                    raise
                # Half to all of it, so that drains that failed together do not return together.
                pause = _FIRST_PAUSE_SECONDS * 4**attempt
                time.sleep(pause * random.uniform(0.5, 1.0))
            else:
                return answer
        raise AssertionError("unreachable")

    def lines(
        self, path: str, parameters: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> Iterator[str]:
        """Send a request; yield the lines of the answer as they arrive, with their ends.

        Raises:
            As :meth:`call`; TransientBackendError also where the answer breaks off.
        """
        with self._sent("POST", path, parameters, body, headers) as response:
            if response.status != 200:
                check(Answer(response.status, response.headers, response.data), self.server.shown)
            try:
                yield from _lines(response)
            except GeneratorExit:
                response.close()  # somebody has read enough; the server need not go on
                raise

    @contextmanager
    def _sent(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        url = self.server.url.rstrip("/") + path
        if parameters:
            url += "?" + urlencode(parameters, quote_via=quote)
        own = {"Authorization": f"Token {self.server.token}"} if self.server.token else {}
        length = {"Content-Length": str(len(body))} if body else {}
        response = None
        try:
            response = self._pool().request(
                method,
                url,
                body=_Body(body) if body and path == WRITE_PATH else body,
                headers={**own, **(headers or {}), **length},
                timeout=urllib3.Timeout(total=self.server.timeout_seconds),
                retries=False,
                preload_content=False,
            )
            yield response
        except SSLError as error:
            raise BackendMisconfigured(
                f"no TLS with InfluxDB at {self.server.shown}: {error}. Check OPTIONS SSL_CA_CERT, "
                "CERT_FILE and CERT_KEY_FILE"
            ) from error
        except (HTTPError, OSError) as error:
            raise TransientBackendError(
                f"InfluxDB at {self.server.shown} does not answer: {error}"
            ) from error
        finally:
            if response is not None:
                _give_back(response)

    def _pool(self) -> urllib3.PoolManager:
        with self._lock:
            # A forked child must not use, and not close, what it shares with its parent.
            if self._client is None or self._pid != os.getpid():
                server = self.server
                self._pid = os.getpid()
                self._client = InfluxDBClient(
                    server.url,
                    server.token,
                    org=server.org,
                    verify_ssl=server.verify_ssl,
                    ssl_ca_cert=server.ssl_ca_cert,
                    cert_file=server.cert_file,
                    cert_key_file=server.cert_key_file,
                    connection_pool_maxsize=_CONNECTIONS,
                )
            pool: urllib3.PoolManager = self._client.api_client.rest_client.pool_manager
            return pool


class _Body(io.BytesIO):
    """What is sent; tests kill the process when the last byte of it has gone."""

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        if not piece:
            fault("influx_body_sent")
        return piece


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    rest = b""
    for chunk in response.stream(_LINE_BYTES, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode() + "\n"
    if rest:
        yield rest.decode()


def _give_back(response: urllib3.BaseHTTPResponse) -> None:
    """Let the connection be used again, if the answer was read to its end."""
    if response.closed or getattr(response, "length_remaining", None) in (0, None):
        response.release_conn()
    else:
        response.close()
