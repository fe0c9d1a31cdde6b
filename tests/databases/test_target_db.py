"""``hints={"target_db": ...}`` in real migrations, over three aliases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from databases.conftest import Host

ALIASES = {"default": "", "analytics": "_ANALYTICS", "blog_db": "_BLOG"}
MIGRATE_ALL = [("migrate_all", "--skip-makemigrations", "--non-interactive")]
MIGRATE_EACH = [("migrate", "--database", alias, "-v", "0") for alias in ALIASES]


@pytest.fixture(params=["sqlite", "postgresql"])
def three_aliases(request: pytest.FixtureRequest, host: Host) -> Host:
    """``default``, ``analytics``, ``blog_db``, and the app that sends things to ``blog_db``."""
    for alias, suffix in ALIASES.items():
        if request.param == "postgresql":
            make: Callable[[str], str] = request.getfixturevalue("postgres_database")
            host.env[f"DATABASE__URL{suffix}"] = make(alias)
        else:
            host.env[f"DATABASE__URL{suffix}"] = f"sqlite:///{host.data_dir}/{alias}.sqlite3"
    host.env["HOST_EXTRA_APPS"] = "databases.host.targeted.apps.Config"
    host.env["HOST_RULES"] = '{"labels": {"analytics": "analytics", "blog": "blog_db"}}'
    return host


def rows(host: Host, alias: str, query: str) -> list[tuple[object, ...]] | None:
    """Ask a database behind Django's back; ``None`` if the table is not there."""
    url = host.env[f"DATABASE__URL{ALIASES[alias]}"]
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            try:
                return connection.execute(query).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                return None
    with psycopg.connect(url.replace("postgres://", "postgresql://", 1)) as server:
        try:
            return server.execute(query).fetchall()
        except psycopg.errors.UndefinedTable:
            return None


@pytest.mark.parametrize("commands", [MIGRATE_ALL, MIGRATE_EACH], ids=["migrate_all", "migrate"])
def test_c_run_sql_hints_target_db_runs_on_that_alias_only(
    three_aliases: Host, commands: list[tuple[str, ...]]
) -> None:
    """``RunSQL`` and ``RunPython``, in a transaction and in steps; the app's model elsewhere."""
    for command in commands:
        three_aliases.ok(*command)
    marks = "SELECT place FROM marks ORDER BY place"
    assert rows(three_aliases, "blog_db", marks) == [("code",), ("step",)]
    assert rows(three_aliases, "default", marks) is None
    assert rows(three_aliases, "analytics", marks) is None
    notes = "SELECT text FROM targeted_note"
    assert rows(three_aliases, "default", notes) == []
    assert rows(three_aliases, "blog_db", notes) is None
    assert rows(three_aliases, "analytics", notes) is None
    checked = three_aliases.ok("migrate_all", "--check", "--skip-makemigrations")
    assert "All databases are clean." in checked
