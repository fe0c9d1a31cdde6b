"""``make demo`` end to end: real processes, real requests, and books that balance."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from project.ledger_line import Ledger

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 180


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    # What `make test` was called with must not reach the make in here.
    ours = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "DJANGO_SETTINGS_MODULE"}
    ours |= {"ARGS", "DURATION", "PORT"}  # make hands on what stood on its command line
    return {name: text for name, text in os.environ.items() if name not in ours}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "demo"
    yield folder
    assert _processes_of(folder) == [], "the demo left processes behind"


def _processes_of(folder: Path) -> list[str]:
    """Return the commands that run with this demo's folder in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"PROJECT_DATA_DIR={folder}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # gone already, or another user's
    return found


def _count_by_measurement(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(folder / "shop.sqlite3")) as connection:
        return dict(
            connection.execute("SELECT measurement, count(*) FROM tailrace_event GROUP BY 1")
        )


def test_make_demo_ends_by_itself_with_a_balanced_ledger(
    folder: Path, environment: dict[str, str]
) -> None:
    command = [
        "make",
        # The environment that runs this test has everything; make need not install it.
        f"--old-file={sys.prefix}/.ready-demo",
        "demo",
        f"VENV={sys.prefix}",
        f"DEMO_DIR={folder}",
        "DURATION=8",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last_line = done.stdout.splitlines()[-1]
    ledger = Ledger.parse(last_line)
    assert ledger.line(is_balanced=True) == last_line
    counts = _count_by_measurement(folder)
    assert sum(counts.values()) == ledger.stored
    assert {"request", "query", "exception", "checkout", "recommendations.rank"} <= set(counts)
    assert counts["query"] > counts["request"] > 100
    assert re.search(r"user: demo +password: \S+", done.stdout)
    _assert_no_errors(folder)


def _assert_no_errors(folder: Path) -> None:
    for name in ("worker", "beat", "traffic"):
        log = (folder / "logs" / f"{name}.log").read_text()
        assert "Traceback" not in log, f"{name}:\n{log[-3000:]}"
    web = (folder / "logs" / "web.log").read_text()
    # The shop's broken pages are in there on purpose; our own loggers have nothing to say.
    assert "ERROR django.request: " in web
    assert not re.search(r" (WARNING|ERROR|CRITICAL) tailrace", web), web[-3000:]


def _start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "project.demo", "--directory", str(folder)],
        cwd=ROOT / "tests",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, so that the signal can go to all of it, as Ctrl-C does.
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "ends it" in line:
            return process
    raise AssertionError("the demo did not come up")


def _finish(process: subprocess.Popen[str]) -> list[str]:
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    return output.splitlines()


def test_ctrl_c_ends_it_in_good_order(folder: Path, environment: dict[str, str]) -> None:
    process = _start(folder, environment)
    time.sleep(3)
    lines = _finish(process)
    assert process.returncode == 0, "\n".join(lines)
    assert lines[-1].endswith(" in_flight=0 balanced=yes")


def test_a_row_that_is_missing_is_noticed(folder: Path, environment: dict[str, str]) -> None:
    process = _start(folder, environment)
    deadline = time.monotonic() + 30
    while not _delete_a_row(folder):
        assert time.monotonic() < deadline, "nothing was stored in 30 s"
        time.sleep(0.5)
    lines = _finish(process)
    assert process.returncode == 1, "\n".join(lines)
    assert lines[-1].endswith(" balanced=no")
    assert any("NOT BALANCED: the ledger says" in line for line in lines)


def _delete_a_row(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "shop.sqlite3", timeout=10)) as connection:
        deleted = connection.execute(
            "DELETE FROM tailrace_event WHERE id = (SELECT max(id) FROM tailrace_event)"
        ).rowcount
        connection.commit()
        return int(deleted)
