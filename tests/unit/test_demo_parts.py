"""What the demo's verdict and its visitors are made of."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from project.ledger_line import Ledger, LedgerLineError
from project.processes import Process, ProcessError, own_directory, run
from project.traffic import Tally, Visitor
from project.traffic import run as run_traffic

LINE = (
    "ledger: captured=9 stored=6 sampled_out=1 dropped=1 dead_lettered=1 in_flight=0 balanced=yes"
)
GOOD = {"rows": 6, "requests": 3, "answered": 3}


def test_a_ledger_line_is_read_and_written_again() -> None:
    ledger = Ledger.parse(f"a warning\n{LINE}\n")
    assert ledger.line(is_balanced=True) == LINE
    assert ledger.line(is_balanced=False) == LINE.replace("yes", "no")
    assert ledger.problems(**GOOD) == []


@pytest.mark.parametrize("output", ["", "ledger: captured=9", LINE.replace("yes", "maybe")])
def test_no_ledger_line_is_an_error(output: str) -> None:
    with pytest.raises(LedgerLineError):
        Ledger.parse(output)


@pytest.mark.parametrize(
    ("line", "counts", "problem"),
    [
        (LINE.replace("=yes", "=no"), GOOD, "tailrace_status says so"),
        (LINE.replace("captured=9", "captured=10"), GOOD, "9 are accounted for"),
        (
            LINE.replace("captured=9", "captured=11").replace("flight=0", "flight=2"),
            GOOD,
            "2 events are still on their way",
        ),
        (LINE, {**GOOD, "rows": 5}, "the table has 5 rows"),
        (LINE, {**GOOD, "rows": 7}, "the table has 7 rows"),
        (LINE, {**GOOD, "answered": 4}, "4 requests were answered, 3 have a row"),
        (LINE, {**GOOD, "answered": 0}, "nothing was shown"),
    ],
)
def test_what_does_not_add_up_is_said(line: str, counts: dict[str, int], problem: str) -> None:
    assert problem in "; ".join(Ledger.parse(line).problems(**counts))


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_that_ends_early_is_an_error_with_its_log(tmp_path: Path) -> None:
    process = Process("web", python("import sys; sys.exit('no port left')"), {}, tmp_path)
    with pytest.raises(ProcessError, match=r"status 1[\s\S]*no port left"):
        _check_until_ended(process)


def _check_until_ended(process: Process) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        process.check()
        time.sleep(0.01)


def test_a_process_is_stopped_with_sigterm(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('flushed')))\n"
        "print('up', flush=True)\n"
        "time.sleep(60)"
    )
    process = Process("web", python(code), {}, tmp_path)
    _wait_for_output(process, "up")
    process.stop(10)
    assert process.output() == "up\nflushed\n"


def test_a_process_that_does_not_stop_is_killed_and_reported(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('up', flush=True); time.sleep(60)"
    )
    process = Process("worker", python(code), {}, tmp_path)
    _wait_for_output(process, "up")
    with pytest.raises(ProcessError, match=r"worker did not stop in 0\.2 s"):
        process.stop(0.2)
    assert process.exit_status is not None


def _wait_for_output(process: Process, text: str) -> None:
    end = time.monotonic() + 10
    while text not in process.output():
        assert time.monotonic() < end, process.output()
        time.sleep(0.01)


def test_a_command_that_fails_is_an_error_unless_expected(tmp_path: Path) -> None:
    command = python("import sys; print('seen'); sys.exit(1)")
    assert run("status", command, {}, tmp_path, ok_statuses=(0, 1)) == "seen\n"
    with pytest.raises(ProcessError, match=r"status failed with status 1:\nseen"):
        run("status", command, {}, tmp_path)


def test_a_folder_of_somebody_else_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ProcessError, match="other things"), own_directory(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_of_an_earlier_demo_is_emptied_and_not_shared(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with own_directory(folder):
        (folder / "logs").mkdir()
    with own_directory(folder):
        assert not (folder / "logs").exists()
        with pytest.raises(ProcessError, match="Another demo runs"), own_directory(folder):
            pass


class CountingHandler(http.server.BaseHTTPRequestHandler):
    """A tiny site: sets a cookie, redirects once, wants the CSRF token of its form."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Cookie", "")))
        if self.path == "/away/":
            self._reply(302, b"", {"Location": "/home/"})
        elif self.path == "/hang-up/":
            self.close_connection = True
        else:
            self._reply(200, b"<html>", {"Set-Cookie": "csrftoken=abc; Path=/"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, body.decode()))
        self._reply(201, body, {})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def site() -> Iterator[str]:
    CountingHandler.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), CountingHandler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def visitor(site: str) -> Iterator[Visitor]:
    visitor = Visitor(site, 1, Tally(), lambda: None)
    yield visitor
    visitor.close()


def test_a_visitor_keeps_cookies_and_follows_redirects(visitor: Visitor) -> None:
    visitor.get("/")
    visitor.get("/away/")
    assert CountingHandler.seen == [
        ("/", ""),
        ("/away/", "csrftoken=abc"),
        ("/home/", "csrftoken=abc"),
    ]
    assert json.loads(visitor.tally.as_json()) == {
        "answered": 3,
        "unanswered": 0,
        "statuses": {"200": 2, "302": 1},
    }


def test_a_visitor_counts_what_got_no_answer_and_goes_on(visitor: Visitor) -> None:
    assert visitor.get("/hang-up/") == ""
    assert visitor.get("/") == "<html>"
    assert (visitor.tally.answered, visitor.tally.unanswered) == (1, 1)


def test_a_visitor_posts_the_token_of_the_form(visitor: Visitor) -> None:
    assert visitor.post_form("/cart/", "t", product=3) == "csrfmiddlewaretoken=t&product=3"


def test_traffic_keeps_its_rate_and_stops(site: str) -> None:
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    tally = run_traffic(site, visitors=3, rate=30, seed=1, stop=stop)
    # A visit under way is finished without pauses, so a few more than 30 are right.
    assert 15 <= tally.answered <= 60
    assert tally.unanswered == 0
