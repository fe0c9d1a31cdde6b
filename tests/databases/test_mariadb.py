"""A legacy database in MariaDB, and migrations on an engine that cannot roll back DDL."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from mariadb_server import execute

from databases.conftest import Host

QUIET = ("--skip-makemigrations", "--non-interactive")


def test_c_legacy_in_mariadb_is_read_and_written_and_never_migrated(
    host: Host, make_mariadb_database: Callable[[str], str]
) -> None:
    """Beside a default in SQLite; health, size, lag, statements and bloat are answered."""
    url = make_mariadb_database("erp")
    execute(
        url,
        "CREATE TABLE erp_customer (id integer PRIMARY KEY, name varchar(100) NOT NULL)",
        "INSERT INTO erp_customer VALUES (1, 'old friend')",
    )
    host.env["DATABASE__URL_LEGACY"] = url
    host.env["HOST_RULES"] = '{"legacy": {"erp": "legacy"}}'
    output = host.ok("migrate_all", *QUIET)
    assert "legacy: legacy: never migrated" in output
    answer = json.loads(
        host.python(
            """
import json
from databases.host.erp.models import Customer
from django.db import connections
from tailrace.django_integration.databases import *
customer = Customer.objects.get()
customer.name = "new friend"
customer.save()
print(json.dumps({
    "name": Customer.objects.get().name,
    "tables": connections["legacy"].introspection.table_names(),
    "health": check_all_databases()["legacy"],
    "size": get_database_sizes()["legacy"]["size_bytes"],
    "bloat": get_table_bloat("legacy")[0]["table"],
    "slow": [row["calls"] for row in get_slow_queries("legacy")],
    "lag": get_replication_lag("legacy"),
    "vacuum": vacuum_databases(["legacy"]),
}, default=str))
"""
        )
    )
    assert answer["name"] == "new friend"
    assert answer["tables"] == ["erp_customer"]
    assert answer["health"]["status"] == "healthy"
    assert answer["health"]["connection_count"] >= 1
    assert answer["size"] > 0
    assert answer["bloat"] == "erp_customer"
    assert answer["slow"]
    assert answer["lag"] is None
    assert answer["vacuum"]["legacy"]["detail"] == "ANALYZE TABLE on 1 tables"
    assert str(urlsplit(url).password) not in json.dumps(answer)


@pytest.mark.faults
def test_d_kill_9_midway_on_an_engine_that_cannot_roll_back_ddl(
    host: Host, make_mariadb_database: Callable[[str], str]
) -> None:
    """Even an atomic migration can be half done there; the journal says how far it got."""
    host.env["DATABASE__URL"] = make_mariadb_database("halfway")
    host.env["HOST_EXTRA_APPS"] = "databases.host.halfway.apps.Config"
    run = host.start("migrator", "--auto", "--app", "halfway", HALFWAY_HANG="0003")
    deadline = time.monotonic() + 30
    while not (host.data_dir / "hanging").exists():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    waiter = host.run("migrator", "--auto", "--app", "halfway", "--lock-timeout", "0.5")
    assert "another run is migrating this database" in waiter.stdout
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=10)
    checked = host.run("migrate_all", "--check", "--skip-makemigrations")
    assert "halfway.0003_in_a_transaction: CUT OFF: 1 of 2 operations done" in checked.stdout
    host.ok("migrator", "--auto", "--app", "halfway")
    assert (host.data_dir / "runs-0003").read_text() == "run\nrun\n"
    assert host.python(
        "from databases.host.halfway.models import Part; Part(height=1).save(); print('ok')"
    ).endswith("ok")
