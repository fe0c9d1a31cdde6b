"""Health, sizes, slow queries, bloat, vacuum, clean-up; on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import socket
import textwrap
import time
from dataclasses import replace

import pytest
from postgres_server import PASSWORD, PostgresServer

from databases.conftest import Host


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def migrated_host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """``default`` and ``analytics``, migrated, on either engine; made once."""
    host = Host(tmp_path_factory.mktemp("health"))
    if request.param == "postgresql":
        primary: PostgresServer = request.getfixturevalue("postgres_primary")
        host.env["DATABASE__URL"] = primary.create_database("health")
        host.env["DATABASE__URL_ANALYTICS"] = primary.create_database("health_analytics")
    else:
        host.env["DATABASE__URL"] = f"sqlite:///{host.data_dir}/default.sqlite3"
        host.env["DATABASE__URL_ANALYTICS"] = f"sqlite:///{host.data_dir}/analytics.sqlite3"
    host.env["HOST_RULES"] = '{"labels": {"analytics": "analytics"}}'
    host.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    host.ok("createcachetable")
    return host


@pytest.fixture
def any_host(migrated_host: Host) -> Host:
    """The migrated host, with an environment that the test may change."""
    return replace(migrated_host, env=dict(migrated_host.env))


def ask(host: Host, code: str) -> object:
    """Run code in the host that sets ``answer``, and return the answer."""
    body = textwrap.dedent(code)
    start = "import json\nfrom tailrace.django_integration.databases import *\n"
    return json.loads(host.python(f"{start}{body}\nprint(json.dumps(answer, default=str))"))


def is_postgresql(host: Host) -> bool:
    """Say which engine the host is on."""
    return host.env["DATABASE__URL"].startswith("postgres")


def test_c_check_all_databases(any_host: Host) -> None:
    """``{alias: {"status", "response_time", "connection_count"}}``, all filled; one is down."""
    any_host.env["DATABASE__URL_LEGACY"] = "postgres://u:hunter2secret@127.0.0.1:1/x"
    answer = ask(any_host, "answer = check_all_databases()")
    assert set(answer) == {"default", "analytics", "legacy"}
    for alias in ("default", "analytics"):
        assert answer[alias]["status"] == "healthy"
        assert 0 < answer[alias]["response_time"] < 2
        assert answer[alias]["connection_count"] >= 1
    assert answer["legacy"]["status"] == "unhealthy"
    assert "refused" in answer["legacy"]["error"]
    assert "hunter2secret" not in json.dumps(answer)


def test_a_database_that_does_not_answer_does_not_hold_up_the_others(
    host: Host, postgres_primary: PostgresServer
) -> None:
    """A port that takes the connection and says nothing: unhealthy after the time given."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        host.env["DATABASE__URL_ANALYTICS"] = f"postgres://u:p@127.0.0.1:{port}/x"
        started = time.monotonic()
        answer = ask(host, "answer = check_all_databases(timeout_seconds=1)")
        took_seconds = time.monotonic() - started
    assert answer["default"]["status"] == "healthy"
    assert answer["analytics"]["error"] == "no answer within 1 s"
    assert took_seconds < 6


def test_c_get_database_sizes(any_host: Host) -> None:
    """Bytes and a size for people."""
    answer = ask(any_host, "answer = get_database_sizes()")
    for alias in ("default", "analytics"):
        assert answer[alias]["size_bytes"] > 10_000
        assert answer[alias]["size"].endswith(("kB", "MB"))
        assert answer[alias]["error"] is None


def test_c_get_slow_queries(any_host: Host) -> None:
    """PostgreSQL tells, and hides passwords; without the extension, and on SQLite, it says why."""
    code = """
    found = get_slow_queries("default", 5)
    answer = [list(found), found.reason]
    """
    rows, reason = ask(any_host, code)
    assert rows == []
    if not is_postgresql(any_host):
        assert reason == "SQLite keeps no statistics of statements."
        return
    assert "CREATE EXTENSION pg_stat_statements" in reason
    made = """
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION pg_stat_statements")
        cursor.execute("SELECT pg_stat_statements_reset()")
        cursor.execute("SELECT pg_sleep(0.2)")
        cursor.execute("CREATE ROLE someone PASSWORD 'hunter2secret'")
        cursor.execute("DROP ROLE someone")
    found = get_slow_queries("default", 5)
    answer = [list(found), found.reason]
    """
    rows, reason = ask(any_host, made)
    assert reason == ""
    assert "pg_sleep" in rows[0]["query"]
    assert rows[0]["total_ms"] >= 200
    assert rows[0]["calls"] == 1
    assert "hunter2secret" not in json.dumps(rows)
    assert any("hidden" in row["query"] for row in rows)


def test_c_get_connection_info_without_secrets(any_host: Host) -> None:
    """Engine, server, name and user; never a password."""
    answer = ask(any_host, "check_all_databases(); answer = get_connection_info()")
    assert answer["default"]["vendor"] == ("postgresql" if is_postgresql(any_host) else "sqlite")
    assert set(answer) == {"default", "analytics"}
    assert PASSWORD not in json.dumps(answer)
    assert "PASSWORD" not in json.dumps(answer).upper()


def test_c_close_old_connections_and_reset_queries() -> None:
    """The same functions as Django's."""
    import django.db

    from tailrace.django_integration import databases

    assert databases.close_old_connections is django.db.close_old_connections
    assert databases.reset_queries is django.db.reset_queries


def test_c_bloat_and_vacuum_databases(any_host: Host) -> None:
    """Deleted rows show as dead space, and are gone after a vacuum."""
    code = """
    from django.utils import timezone
    from databases.host.analytics.models import PageView
    now = timezone.now()
    PageView.objects.bulk_create(
        [PageView(path="x" * 180, created_at=now) for _ in range(3000)], batch_size=500)
    PageView.objects.all().delete()
    from django.db import connections
    with connections["analytics"].cursor() as cursor:
        if connections["analytics"].vendor == "postgresql":
            cursor.execute("SELECT pg_stat_force_next_flush()")
    import time; time.sleep(1)
    before = get_table_bloat("analytics", 20)
    done = vacuum_databases(["analytics"])
    time.sleep(1)
    after = get_table_bloat("analytics", 20)
    answer = [before, done, after]
    """
    if is_postgresql(any_host):
        # Counts reach the statistics when a session ends or is idle; PostgreSQL 15 can be told.
        code = code.replace("time.sleep(1)", "connections.close_all(); time.sleep(1.2)")
    before, done, after = ask(any_host, code)

    def dead(rows: list[dict[str, float]]) -> float:
        return sum(row["dead_bytes"] for row in rows)

    assert done["analytics"]["ok"], done
    assert "VACUUM" in done["analytics"]["detail"]
    assert dead(before) > 100_000
    assert dead(after) < dead(before) / 10


def test_c_vacuum_inside_a_transaction_is_an_error_that_says_so(any_host: Host) -> None:
    """And not a silent nothing."""
    code = """
    from django.db import transaction
    with transaction.atomic():
        answer = vacuum_databases(["default"])["default"]
    """
    answer = ask(any_host, code)
    assert not answer["ok"]
    assert "cannot run inside atomic()" in answer["detail"]


AGED_ROWS = """
from datetime import timedelta
from django.core.cache import caches
from django.utils import timezone
from databases.host.analytics.models import PageView
now = timezone.now()
PageView.objects.bulk_create([
    PageView(path=str(age), created_at=now - timedelta(days=age)) for age in (0, 89, 91, 400)])
caches["shared"].set("short", 1, timeout=1)
caches["shared"].set("long", 1, timeout=600)
import time; time.sleep(2.1)
"""


def test_c_cleanup_old_analytics_data_and_expired_cache_entries(any_host: Host) -> None:
    """By rule and by days; expired cache rows go, others stay."""
    ask(any_host, AGED_ROWS + "\nanswer = 0")
    assert any_host.run("tailrace_maintain").returncode == 1
    output = any_host.ok("tailrace_maintain", "--cleanup")
    assert "cleanup analytics.PageView: ok, 2 rows deleted" in output
    assert "cache shared: ok, 1 rows deleted" in output
    code = """
    from databases.host.analytics.models import PageView
    from django.core.cache import caches
    answer = [sorted(PageView.objects.values_list("path", flat=True)), caches["shared"].get("long")]
    """
    assert ask(any_host, code) == [["0", "89"], 1]
    only = any_host.ok("tailrace_maintain", "--cleanup", "--days", "30", "--database", "analytics")
    assert "cleanup analytics.PageView: ok, 1 rows deleted" in only
    assert "cache shared" not in only


def test_c_tailrace_maintain_cleanup_vacuum_health_check_database(any_host: Host) -> None:
    """All parts, one alias or all; 1 if anything failed, and the rest is done."""
    output = any_host.ok("tailrace_maintain", "--cleanup", "--vacuum", "--health-check")
    assert "vacuum default: ok, VACUUM" in output
    assert "vacuum analytics: ok, VACUUM" in output
    assert "health default: ok, healthy" in output
    one = any_host.ok("tailrace_maintain", "--vacuum", "--database", "analytics")
    assert "vacuum default" not in one
    any_host.env["DATABASE__URL_BLOG"] = "postgres://u:hunter2secret@127.0.0.1:1/x"
    done = any_host.run("tailrace_maintain", "--vacuum", "--health-check")
    assert done.returncode == 1
    assert "vacuum default: ok" in done.stdout
    assert "Failed: vacuum blog_db, health blog_db." in done.stdout
    assert "hunter2secret" not in done.stdout


def test_c_maintenance_as_a_beat_task(any_host: Host) -> None:
    """``run_maintenance`` is a plain function whose report can be sent as JSON."""
    report = ask(any_host, "answer = run_maintenance(vacuum=True, health_check=True)")
    assert report["vacuum"]["default"]["ok"]
    assert report["health"]["analytics"]["status"] == "healthy"


def test_a_rule_for_a_model_that_is_not_there_says_what_to_write(host: Host) -> None:
    """Wrong model, wrong field."""
    for rule in ({"nope.Model": {"field": "x"}}, {"analytics.PageView": {"field": "nope"}}):
        code = f"""
        from django.core.exceptions import ImproperlyConfigured
        try:
            answer = cleanup_old_analytics_data(rules={rule!r})
        except ImproperlyConfigured as error:
            answer = str(error)
        """
        assert "DATABASE_CLEANUP_RULES" in ask(host, code)


@pytest.mark.faults
def test_c_replication_lag(
    host: Host, postgres_primary: PostgresServer, postgres_replica: PostgresServer
) -> None:
    """Nought when in step; seconds once replay is paused and something was written."""
    url = postgres_primary.create_database("lag")
    host.env["DATABASE__URL"], host.env["DATABASE__URL_REPLICA"] = url, postgres_replica.url("lag")
    host.env["PGCONNECT_TIMEOUT"] = "5"
    code = """
    import time
    from django.db import connection, connections
    def lag(): return get_replication_lag("replica")
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            if lag() == 0: break
        except Exception as error:
            connections["replica"].close()
        time.sleep(0.1)
    first = lag()
    with connections["replica"].cursor() as cursor:
        cursor.execute("SELECT pg_wal_replay_pause()")
    lag()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE x (id int)")
    time.sleep(1.5)
    answer = [first, lag(), check_all_databases()["replica"]["replication_lag"],
              get_replication_lag("default")]
    """
    first, later, in_health, of_primary = ask(host, code)
    assert first == 0
    assert 1.0 < later < 20
    assert in_health >= later
    assert of_primary == 0
    with postgres_replica.connect() as connection:
        connection.execute("SELECT pg_wal_replay_resume()")
