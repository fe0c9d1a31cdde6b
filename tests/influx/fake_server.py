"""A server that takes line protocol strictly, keeps points by identity, and answers as told."""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from influx.strict_line_protocol import LineError, Point, parse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOKEN = "token of the fake server"


class Scripted(NamedTuple):
    """What to do with one write instead of the usual."""

    status: int = 0
    """0 closes the connection without an answer; -1 breaks off in the middle of one."""
    headers: Mapping[str, str] = {}
    keeps: bool = False
    """Whether the points are kept all the same."""


class FakeInflux:
    """What the server has, and what it is to do next."""

    def __init__(self) -> None:
        self.points: dict[tuple[Any, ...], Point] = {}
        self.script: deque[Scripted] = deque()
        self.bodies: list[str] = []
        self.lines_max = 10**9
        self.buckets: dict[str, int] = {}
        self.refuses: Callable[[Point], bool] = lambda point: False
        """Which points get a 422, while the others are kept."""
        self.malformed: Callable[[Point], bool] = lambda point: False
        """Which points make the whole body a 400."""
        self.lock = threading.Lock()
        self.types: dict[tuple[str, str], type] = {}
        self.version = "2.7.fake"
        """``1.12...`` is a server without organisations."""
        self.deletes: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def empty(self) -> None:
        """Forget all."""
        self.points.clear()
        self.types.clear()
        self.bodies.clear()

    def write(self, body: str) -> tuple[int, str]:
        """Take a body as InfluxDB does; return status and message."""
        self.bodies.append(body)
        try:
            points = parse(body)
        except LineError as error:
            return 400, f"unable to parse: {error}"
        if len(points) > self.lines_max:
            return 413, "request body too large"
        if any(map(self.malformed, points)):
            return 400, "unable to parse a line"
        good = [point for point in points if not self.refuses(point) and self._fits(point)]
        for point in good:
            self._keep(point)
        dropped = len(points) - len(good)
        return (422, f"partial write: dropped={dropped}") if dropped else (204, "")

    def identities(self) -> str:
        """Return what all points are, by id, which is the one question the writer has."""
        rows = [
            f",,0,{_rfc3339(point.time_ns)},{point.fields['tailrace.id']},"
            f"{dict(point.tags).get('tailrace.slot', '')},"
            f"{dict(point.tags).get('tailrace.burst', '')}"
            for point in self.points.values()
        ]
        return "\r\n".join(
            [
                "#datatype,string,long,dateTime:RFC3339,string,string,string",
                "#group,false,false,false,false,true,true",
                "#default,_result,,,,,",
                ",result,table,_time,_value,tailrace.slot,tailrace.burst",
                *rows,
                "",
            ]
        )

    def _fits(self, point: Point) -> bool:
        """Hold each field to one type, as InfluxDB does."""
        return all(
            self.types.setdefault((point.measurement, key), type(value)) is type(value)
            for key, value in point.fields.items()
        )

    def _keep(self, point: Point) -> None:
        known = self.points.get(point.identity)
        if known is not None:
            fields = {**known.fields, **point.fields}
            point = Point(point.measurement, point.tags, fields, point.time_ns)
        self.points[point.identity] = point

    @property
    def is_second(self) -> bool:
        """Whether it plays an InfluxDB 2, with organisations and tasks."""
        return self.version.removeprefix("v").startswith("2")

    def _handler(self) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one class
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                path = urlsplit(self.path)
                if path.path == "/ping":
                    self._answer(204, headers={"X-Influxdb-Version": fake.version})
                elif path.path == "/health":
                    self._answer(200, {"status": "pass"})
                elif path.path == "/api/v2/orgs" and fake.is_second:
                    if parse_qs(path.query).get("org") == ["org"]:
                        self._answer(200, {"orgs": [{"id": "1"}]})
                    else:
                        self._answer(404, {"message": "organization name not found"})
                elif path.path == "/api/v2/tasks" and fake.is_second:
                    self._answer(200, {"tasks": []})
                elif path.path == "/api/v2/buckets":
                    wanted = parse_qs(path.query).get("name")
                    self._answer(
                        200,
                        {
                            "buckets": [
                                {"id": name, "name": name, "retentionRules": _rules(seconds)}
                                for name, seconds in fake.buckets.items()
                                if wanted is None or name in wanted
                            ]
                        },
                    )
                else:
                    self._answer(404, {"message": "path not found"})

            def do_PATCH(self) -> None:
                rules = json.loads(self._body())["retentionRules"]
                fake.buckets[unquote(self.path.rpartition("/")[2])] = rules[0]["everySeconds"]
                self._answer(200, {})

            def do_POST(self) -> None:
                body = self._body()
                path = urlsplit(self.path)
                if self.headers["Authorization"] != f"Token {TOKEN}":
                    self._answer(401, {"message": "unauthorized access"})
                elif path.path == "/api/v2/buckets":
                    made = json.loads(body)
                    fake.buckets[made["name"]] = made["retentionRules"][0]["everySeconds"]
                    self._answer(201, {})
                elif path.path == "/api/v2/delete":
                    fake.deletes.append(json.loads(body))
                    self._answer(204)
                elif path.path == "/api/v2/query":
                    self._answer_text(fake.identities())
                elif path.path != "/api/v2/write":
                    self._answer(404, {"message": "path not found"})
                elif parse_qs(path.query)["bucket"][0] not in fake.buckets:
                    self._answer(404, {"message": "bucket not found"})
                else:
                    self._write(body)

            def _write(self, body: str) -> None:
                with fake.lock:
                    scripted = fake.script.popleft() if fake.script else None
                    if scripted is None or scripted.keeps:
                        status, message = fake.write(body)
                if scripted is None:
                    self._answer(status, {"message": message} if message else None)
                elif scripted.status > 0:
                    self._answer(scripted.status, {"message": "scripted"}, scripted.headers)
                else:
                    if scripted.status < 0:
                        self.wfile.write(b"HTTP/1.1 500 Broken\r\nContent-Length: 1000\r\n\r\n{")
                    self.close_connection = True

            def _answer_text(self, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def _body(self) -> str:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                return body.decode()

            def _answer(
                self, status: int, body: Any = None, headers: Mapping[str, str] | None = None
            ) -> None:
                text = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if status != 204:
                    self.wfile.write(text)

        return Handler


def _rfc3339(time_ns: int) -> str:
    second, ns = divmod(time_ns, 10**9)
    return f"{_EPOCH + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


def _rules(seconds: int) -> list[dict[str, Any]]:
    return [{"type": "expire", "everySeconds": seconds}] if seconds else []
