"""The worked example of docs/databases.md: five aliases, in development and in production."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator

import pytest
from postgres_server import PASSWORD, PostgresServer

from databases.conftest import Host

ALIASES = ["default", "analytics", "legacy", "replica", "telemetry"]
LEGACY_TABLE = "CREATE TABLE erp_customer (id integer PRIMARY KEY, name varchar(100) NOT NULL)"
LEGACY_ROW = "INSERT INTO erp_customer (id, name) VALUES (1, 'old friend')"


@pytest.fixture
def development(host: Host) -> Host:
    """SQLite files, and a legacy table that nobody migrates."""
    host.settings = "databases.host.settings.development"
    connection = sqlite3.connect(host.data_dir / "legacy.sqlite3")
    connection.execute(LEGACY_TABLE)
    connection.execute(LEGACY_ROW)
    connection.commit()
    connection.close()
    return host


@pytest.fixture
def production(
    host: Host, postgres_primary: PostgresServer, postgres_replica: PostgresServer
) -> Iterator[Host]:
    """PostgreSQL: four databases on a primary, and a streaming replica of the first."""
    host.settings = "databases.host.settings.production"
    names = ["default", "analytics", "legacy", "telemetry"]
    for name in names:
        url = postgres_primary.create_database(f"example_{name}")
        suffix = "" if name == "default" else f"_{name.upper()}"
        host.env[f"DATABASE__URL{suffix}"] = url
    host.env["DATABASE__URL_REPLICA"] = postgres_replica.url("example_default")
    with postgres_primary.connect("example_legacy") as connection:
        connection.execute(LEGACY_TABLE)
        connection.execute(LEGACY_ROW)
    yield host
    with postgres_primary.connect() as connection:
        for name in names:
            connection.execute(f"DROP DATABASE example_{name} WITH (FORCE)")


@pytest.fixture(params=["development", "production"])
def example(request: pytest.FixtureRequest) -> Host:
    """The example, in either of its settings."""
    return request.getfixturevalue(request.param)


DAY = """
import json, time
from databases.host.analytics.models import PageView
from databases.host.erp.models import Customer
from databases.host.shop.models import Order
from django.db import connections, router
from django.test import Client
from django.utils import timezone
from tailrace.django_integration.routers import forget_writes

order = Order.objects.create(number=1)
seen = {"order": order._state.db, "own read": Order.objects.get()._state.db}
forget_writes()
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    aliases = {found._state.db for found in (Order.objects.first() for _ in range(10)) if found}
    if aliases == {"default", "replica"}:
        break
    time.sleep(0.1)
seen["later reads"] = sorted(aliases)
seen["page view"] = PageView.objects.create(path="/", created_at=timezone.now())._state.db
customer = Customer.objects.get()
customer.name = "new friend"
customer.save()
seen["customer"] = [customer._state.db, Customer.objects.get().name]
seen["telemetry"] = router.allow_migrate("telemetry", "tailrace")
answer = Client().get("/readyz")
seen["readyz"] = [answer.status_code, answer.json()["status"], sorted(answer.json()["databases"])]
tables = {}
for alias in ("default", "analytics", "legacy", "telemetry"):
    tables[alias] = sorted(connections[alias].introspection.table_names())
seen["tables"] = tables
print(json.dumps(seen))
"""


def test_d_five_databases_end_to_end(example: Host) -> None:
    """Migrate, check, write, read, be healthy, maintain; each row and table where it belongs."""
    planned = example.run("migrate_all", "--check")
    assert planned.returncode == 1
    output = example.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    assert "legacy: legacy: never migrated" in output
    assert "replica: replica: gets its schema by replication" in output
    example.ok("createcachetable")
    example.ok("migrate_all", "--check", "--skip-makemigrations")
    seen = json.loads(example.python(DAY))
    tables = seen.pop("tables")
    assert seen == {
        "order": "default",
        "own read": "default",
        "later reads": ["default", "replica"],
        "page view": "analytics",
        "customer": ["legacy", "new friend"],
        "telemetry": True,
        "readyz": [200, "pass", sorted(ALIASES)],
    }
    assert tables["legacy"] == ["erp_customer"]
    own = {"django_migrations", "pg_stat_statements", "pg_stat_statements_info"}
    assert all(name.startswith("tailrace_") or name in own for name in tables["telemetry"])
    assert {"analytics_pageview", "analytics_dailycount"} == set(tables["analytics"]) - own
    assert "shop_order" in tables["default"]
    done = example.ok("tailrace_maintain", "--cleanup", "--vacuum", "--health-check")
    assert "vacuum analytics: ok" in done
    assert "vacuum legacy" not in done
    assert "vacuum replica" not in done
    assert "health replica: ok" in done


POOLED = """
import json, threading
from databases.host.shop.models import Order
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import connection, connections
from django.test import Client

answers = []
def web():
    for _ in range(5):
        answers.append(Client().get("/readyz").status_code)
def worker():
    for _ in range(20):
        request_started.send(sender=None, environ={})
        Order.objects.count(); Order.objects.using("default").count()
        request_finished.send(sender=None)
threads = [threading.Thread(target=work) for work in (web, worker, worker, worker, worker, worker)]
for thread in threads: thread.start()
for thread in threads: thread.join()
call_command("tailrace_maintain", vacuum=True, verbosity=0, stdout=open("/dev/null", "w"))
stats = connections["default"].pool.get_stats()
print(json.dumps({"answers": answers, **stats}))
connection.close_pool()
"""


def test_c_connection_pooling_is_used_by_web_worker_and_commands(production: Host) -> None:
    """Requests, threads and a command share at most ``max_size`` connections."""
    output = production.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    assert "clean" in output
    stats = json.loads(production.python(POOLED).splitlines()[-1])
    assert stats["answers"] == [200] * 5
    assert stats["pool_max"] == 4
    assert stats["pool_size"] <= 4
    assert stats["requests_num"] > 100
    assert stats.get("requests_errors", 0) == 0
    assert stats["connections_num"] <= 6, "connections are kept, not made anew"


def test_d_cross_database_foreign_keys_with_three_aliases(
    host: Host, postgres_database: Callable[[str], str]
) -> None:
    """``author=user``, ``post.author``, ``user.blog_posts.all()``, over real PostgreSQL."""
    host.env["DATABASE__URL"] = make = postgres_database("users")
    host.env["DATABASE__URL_BLOG"] = postgres_database("blog")
    host.env["DATABASE__URL_SHOP"] = postgres_database("shop")
    assert make != host.env["DATABASE__URL_BLOG"]
    host.env["HOST_RULES"] = '{"labels": {"blog": "blog_db", "shop": "shop_db"}}'
    host.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    output = host.python(
        """
from django.contrib.auth import get_user_model
from databases.host.blog.models import Comment, Post
from databases.host.shop.models import Order
user = get_user_model().objects.create_user("ann")
post = Post.objects.create(author=user, title="one")
Comment(post=post, text="x").save()
Order.objects.create(number=1).lines.create(product="pen")
found = Post.objects.get()
print(user._state.db, found._state.db, Order.objects.get()._state.db)
print(found.author.username, found.author._state.db, [p.title for p in user.blog_posts.all()])
print(user.blog_posts.create(title="two")._state.db, found.comments.get().text)
print([p.author.username for p in Post.objects.prefetch_related("author")])
"""
    )
    assert output.splitlines() == [
        "default blog_db shop_db",
        "ann default ['one']",
        "blog_db x",
        "['ann', 'ann']",
    ]


def test_c_one_alias_down_degrades_and_does_not_break(production: Host) -> None:
    """Telemetry down: ready, with a warning. Analytics down: not ready. Names, no password."""
    production.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    code = (
        "from django.test import Client; a = Client().get('/readyz'); "
        "print(a.status_code, a.json()['status'], a.content.decode())"
    )
    gone = "postgres://me:hunter2secret@127.0.0.1:1/gone"
    without_telemetry = last_line(production.python(code, DATABASE__URL_TELEMETRY=gone))
    assert without_telemetry.startswith("200 warn")
    assert "hunter2secret" not in without_telemetry
    without_analytics = last_line(production.python(code, DATABASE__URL_ANALYTICS=gone))
    assert without_analytics.startswith("503 fail")
    assert "hunter2secret" not in without_analytics
    assert PASSWORD not in without_analytics
    started = time.monotonic()
    without_replica = last_line(production.python(code, DATABASE__URL_REPLICA=gone))
    assert without_replica.startswith("200 warn")
    assert time.monotonic() - started < 10


def last_line(output: str) -> str:
    """Return the answer; before it, the driver's pool may have logged that a server is away."""
    return output.splitlines()[-1]
