"""Starts that cannot end well: a clear reason, and nothing half done that cannot go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from backfill.copy_site import CopySite, make_rows
from servers import free_port

ROWS = 4_000
_FULL_AFTER = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.fields->>'n' >= '2500' AND length(NEW.fields->>'n') = 4 THEN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON tailrace_event FOR EACH ROW
    EXECUTE FUNCTION full_disk();
"""
MakeSite = Callable[..., CopySite]


def settled(site: CopySite) -> set[int]:
    """Return the numbers of the steps that are done."""
    statement = "SELECT number FROM tailrace_backfillstep WHERE state = 'done'"
    return {number for (number,) in site.rows(statement)}


def wait_for_log(site: CopySite, words: str) -> None:
    deadline = time.monotonic() + 60
    statement = "SELECT log FROM tailrace_backfill"
    while words not in (log := "".join(text for (text,) in site.rows(statement))):
        assert time.monotonic() < deadline, log
        time.sleep(0.2)


@pytest.mark.parametrize("end", ["source", "target"])
def test_a_backend_that_is_down(make_site: MakeSite, end: str) -> None:
    """It is refused with the database's own reason, and no record is left."""
    site = make_site("sqlite-postgres")
    site.seed(make_rows(10))
    site.urls["new"] = f"postgres://nobody:x@127.0.0.1:{free_port()}/nothing"
    ends = ("--source", "old", "--target", "new")
    if end == "source":
        ends = ("--source", "new", "--target", "old")
    done = site.backfill("copy", *ends, "--measurement", "checkout")
    assert done.returncode == 1
    assert f"the {end} cannot be" in done.stderr
    assert "'telemetry'" in done.stderr
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert site.rows("SELECT count(*) FROM tailrace_backfill") == [(0,)]


def test_a_target_without_tables(make_site: MakeSite, tmp_path: Path) -> None:
    """The reason names the command that makes them."""
    site = make_site("sqlite-sqlite")
    site.seed(make_rows(10))
    (tmp_path / "telemetry.sqlite3").write_bytes(b"")
    done = site.copy()
    assert done.returncode == 1
    assert "manage.py migrate tailrace --database=telemetry" in done.stderr
    assert site.rows("SELECT count(*) FROM tailrace_backfill") == [(0,)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--start", "2030-01-01"), "has no 'checkout' from 2030-01-01 00:00:00 to the end"),
        (("--start", "2026-01-02", "--end", "2026-01-01"), "the window is empty"),
        (("--measurement", "chekout"), "has no 'chekout'"),
    ],
)
def test_a_window_without_data(make_site: MakeSite, more: tuple[str, ...], words: str) -> None:
    site = make_site("sqlite-sqlite")
    site.seed(make_rows(10))
    done = site.copy(*more)
    assert done.returncode == 1
    assert words in done.stderr
    assert site.rows("SELECT count(*) FROM tailrace_backfill") == [(0,)]


def test_a_disk_that_has_no_room_is_known_before_the_start(make_site: MakeSite) -> None:
    """The estimate is compared with what the file system of the target has left."""
    site = make_site("sqlite-sqlite")
    site.seed(make_rows(10))
    script = (
        "import shutil, collections\n"
        "from django.core.management import call_command, CommandError\n"
        "usage = collections.namedtuple('usage', 'total used free')\n"
        "shutil.disk_usage = lambda path: usage(2**30, 2**30, 512)\n"
        "try: call_command('tailrace_backfill', 'copy', '--source=old', '--target=new',"
        " '--measurement=checkout')\n"
        "except CommandError as error: print(error)"
    )
    assert "has room for 0 MB" in site.python(script)
    assert site.rows("SELECT count(*) FROM tailrace_backfill") == [(0,)]


def test_a_sqlite_target_that_becomes_full_goes_on_when_there_is_room(
    make_site: MakeSite,
) -> None:
    """The command says why it waits; whole slices are there, and no part of one."""
    site = make_site("sqlite-sqlite")
    site.seed(make_rows(ROWS))
    pages = site.rows_at("new", "PRAGMA page_count")[0][0]
    site.max_pages = pages + 180
    worker = site.start("manage", "tailrace_backfill", *site.copy_arguments)
    wait_for_log(site, "database or disk is full")
    worker.terminate()
    assert worker.wait(30) == 1
    assert "database or disk is full" in (site.directory / "manage-0.log").read_text()
    done = settled(site)
    assert 0 < len(done) < 4
    assert len(site.events("new")) == 1_000 * len(done)
    latest = site.latest()
    assert latest["state"] == "paused", "Ctrl-C and SIGTERM pause it"

    site.max_pages = 0
    resumed = site.backfill("resume", latest["uid"])
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert site.events("new") == site.events("old")
    assert site.latest()["result"]["rows_written"] == ROWS


def test_a_postgres_target_that_becomes_full_goes_on_by_itself(make_site: MakeSite) -> None:
    site = make_site("postgres-postgres")
    site.seed(make_rows(ROWS))
    with psycopg.connect(site.urls["new"], autocommit=True) as connection:
        connection.execute(_FULL_AFTER)  # type: ignore[arg-type]
        worker = site.start("manage", "tailrace_backfill", *site.copy_arguments)
        wait_for_log(site, "No space left on device")
        done = settled(site)
        assert len(site.events("new")) == 1_000 * len(done)
        connection.execute("DROP FUNCTION full_disk CASCADE")
    assert worker.wait(60) == 0
    assert site.events("new") == site.events("old")
    assert site.latest()["result"]["rows_written"] == ROWS


def test_a_target_that_goes_down_in_the_middle(make_site: MakeSite) -> None:
    """Steps are put off, none fails, none is lost, and the log says which database it is."""
    site = make_site("sqlite-postgres")
    site.seed(make_rows(ROWS))
    assert site.copy("--detach").returncode == 0
    uid, name = site.latest()["uid"], site.urls["new"].rsplit("/", 1)[1]
    server = site.urls["new"].rsplit("/", 1)[0] + "/postgres"
    allow = f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS '
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(allow + "false")  # type: ignore[arg-type]
        worker = site.start("manage", "tailrace_backfill", "--json", "work", uid)
        try:
            wait_for_log(site, "put off for 5 s: database 'telemetry'")
        finally:
            connection.execute(allow + "true")  # type: ignore[arg-type]
    assert worker.wait(60) == 0
    told = (site.directory / "manage-0.log").read_text().splitlines()
    assert json.loads(told[-1])["state"] == "done"
    assert site.latest()["failures"] == []
    assert site.events("new") == site.events("old")
