"""``tailrace_retention`` and what ``tailrace_status`` says, as an operator sees them."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.harness import Site
from servers import RedisServer

OLD = "2001-01-01 00:00:00"
POLICIES = {"request": "7 days", "rollup:1m": "30 days"}
POINTS = [
    "job_taken",
    "before_floor",
    "after_floor",
    "after_level_floor",
    "mid_retention",
    "after_pass",
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Site(tmp_path_factory.mktemp("template"), "redis://127.0.0.1:1/0")
    made.migrate()
    return made.directory / "shop.sqlite3"


@pytest.fixture
def site(
    tmp_path: Path,
    own_redis_server: RedisServer,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    shutil.copy(template, tmp_path)
    monkeypatch.setenv("PROJECT_RETENTION", json.dumps(POLICIES))
    made = Site(tmp_path, own_redis_server.url())
    made.sender.send(range(1_000), "request")
    made.drain()
    made.execute(
        f"UPDATE tailrace_event SET time = '{OLD}' WHERE measurement = 'request' AND id % 4 <> 0"
    )
    yield made
    made.stop_all()


def _requests(site: Site) -> int:
    (row,) = site.rows("SELECT count(*) FROM tailrace_event WHERE measurement = 'request'")
    return int(row[0])


def _rolled_up(site: Site) -> dict[int, int]:
    rows = site.rows(
        "SELECT l.level, sum(b.count) FROM tailrace_rollupbucket b "
        "JOIN tailrace_rolluplevel l ON l.id = b.level_id "
        f"WHERE l.rollup = 'requests' AND b.field = '' AND b.bucket_us < {_us(OLD)} + 1000000 "
        "GROUP BY 1"
    )
    return dict(rows)


def _us(text: str) -> int:
    from datetime import UTC, datetime

    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def test_a_dry_run_changes_nothing_and_says_what_would_go(site: Site) -> None:
    before = _requests(site)
    done = site.manage("tailrace_retention", "--dry-run")
    assert done.returncode == 0, done.stderr
    old = sum(1 for _ in site.rows(f"SELECT 1 FROM tailrace_event WHERE time = '{OLD}'"))
    assert f"request: {old} rows before " in done.stdout
    assert "kB" in done.stdout
    assert "rollup 'requests' keeps duration_ms by route, method, status" in done.stdout
    assert "1 minute for 30 days, 1 hour for ever" in done.stdout
    assert _requests(site) == before
    assert site.rows("SELECT * FROM tailrace_retentionstate") == []
    assert site.rows("SELECT * FROM tailrace_job") == []


def test_a_dry_run_as_json(site: Site) -> None:
    done = site.manage("tailrace_retention", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    (forecasts,) = json.loads(done.stdout).values()
    said = {each["target"]: each for each in forecasts}
    old = sum(1 for _ in site.rows(f"SELECT 1 FROM tailrace_event WHERE time = '{OLD}'"))
    assert said["request"]["rows"] == old
    assert said["request"]["size_bytes"] > 50 * old
    assert said["request"]["problem"] == ""
    assert any("rollup 'requests' keeps" in line for line in said["request"]["charts"])
    refused = site.manage("tailrace_retention", "--json")
    assert refused.returncode != 0
    assert "write --dry-run, too" in refused.stderr
    assert _requests(site) >= old


def test_a_wrong_entry_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _requests(site)
    monkeypatch.setenv("PROJECT_RETENTION", json.dumps({"request": "soon", "query": "1 day"}))
    done = site.manage("tailrace_retention")
    assert done.returncode != 0
    assert "TAILRACE['RETENTION']['request']" in done.stderr
    assert _requests(site) == before


def test_a_run_says_what_went_and_the_status_shows_it(site: Site) -> None:
    old = sum(1 for _ in site.rows(f"SELECT 1 FROM tailrace_event WHERE time = '{OLD}'"))
    before = _requests(site)
    done = site.manage("tailrace_retention")
    assert done.returncode == 0, done.stderr
    assert f"request: {old} rows" in done.stdout
    assert _requests(site) == before - old
    status = site.status()
    (job,) = [each for each in status["jobs"] if each["name"] == "retention"]
    assert job["runs"][0]["rows"] >= old
    assert job["runs"][0]["error"] == ""
    assert status["retention"]["request"]["total_rows"] == old
    levels = {each["name"]: each for each in status["rollups"]}
    assert levels["requests:1 minute"]["valid_until"].startswith("20")
    text = site.manage("tailrace_status").stdout
    assert "job       retention: " in text
    assert f"retention request: {old} rows before " in text
    assert "rollup    requests:1 minute: right up to " in text


def test_a_backend_that_there_is_not(site: Site) -> None:
    done = site.manage("tailrace_retention", "--backend=nothing")
    assert done.returncode != 0
    assert "no backend 'nothing'; there are: default" in done.stderr


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
def test_killed_at(site: Site, point: str) -> None:
    """Whenever it dies, the next run ends it, and no row goes that the rollup does not have."""
    old = sum(1 for _ in site.rows(f"SELECT 1 FROM tailrace_event WHERE time = '{OLD}'"))
    before = _requests(site)
    killed = site.manage("tailrace_retention", fault=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL, f"{point} was never reached"
    gone = before - _requests(site)
    if gone:
        assert _rolled_up(site).get(2) == old, "rows went before their rollup had them"
    site.execute("UPDATE tailrace_job SET expires_us = 0")  # a minute later
    done: Any = site.manage("tailrace_retention")
    assert done.returncode == 0, done.stderr
    assert _requests(site) == before - old
    assert _rolled_up(site).get(2) == old
    runs = site.status()["jobs"]
    (job,) = [each for each in runs if each["name"] == "retention"]
    assert [run["error"] for run in job["runs"]] == ["", "the process ended in the middle of it"]
