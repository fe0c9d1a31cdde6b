"""``TimeRouter``, the manager that is bound to an alias, upserts, cached reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models, router

from databases.conftest import Host
from tailrace.django_integration.databases import MultiDatabaseManager, bulk_upsert, cached_read
from tailrace.django_integration.databases.helpers import CachedRead
from tailrace.django_integration.routers import TimeRouter

Make = Callable[..., Any]
RULES = {"timeseries": {"template": "default", "time_field": "timestamp"}}


def test_c_router_by_month(make_aliases: Make, make_model: Make, use_routers: Make) -> None:
    """A row goes to the month of its time, in UTC; a read without one to the current month."""
    make_aliases()
    use_routers(TimeRouter(RULES, now=lambda: datetime(2026, 2, 10, tzinfo=UTC)))
    sample = make_model("timeseries", "Sample", timestamp=models.DateTimeField())
    assert router.db_for_read(sample) == "timeseries_2026_02"
    in_may = sample(timestamp=datetime(2025, 5, 31, 23, 59, tzinfo=UTC))
    assert router.db_for_write(sample, instance=in_may) == "timeseries_2025_05"
    in_june = sample(timestamp=datetime(2025, 5, 31, 23, tzinfo=timezone(timedelta(hours=-2))))
    assert router.db_for_write(sample, instance=in_june) == "timeseries_2025_06"
    assert router.allow_migrate("timeseries_2025_05", "timeseries")
    assert not router.allow_migrate("timeseries_2025_05", "auth")
    assert not router.allow_migrate("default", "timeseries")
    assert router.allow_migrate("default", "auth")
    assert connections.settings["timeseries_2025_05"]["NAME"].endswith(
        "-timeseries_2025_05.sqlite3"
    )


def test_a_month_rule_that_cannot_work_is_an_error(make_aliases: Make, use_routers: Make) -> None:
    """A pattern without a month, an unknown key, an unknown template."""
    make_aliases()
    bad = [{"alias_pattern": "series_%Y"}, {"patern": "x"}, {"template": "nope"}]
    for rule, message in zip(bad, ["needs %Y and %m", "not known", "'nope'"], strict=True):
        with pytest.raises(ImproperlyConfigured, match=message):
            _ = TimeRouter({"timeseries": rule}).rules


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_c_months_are_created_ahead_and_queried_together(
    host: Host, engine: str, request: pytest.FixtureRequest
) -> None:
    """Databases and tables for what comes; one ordered, limited result over several months."""
    if engine == "postgresql":
        host.env["DATABASE__URL"] = request.getfixturevalue("postgres_database")("months")
    prefix = "m" + host.data_dir.name[-6:].replace("-", "_").lower()
    host.env["HOST_RULES"] = '{"months": {"timeseries": {"alias_pattern": "' + prefix + '_%Y_%m"}}}'
    output = host.python(f"""
from datetime import UTC, datetime
from databases.host.timeseries.models import Sample
from django.db import connection, connections
from tailrace.django_integration.databases.months import *
def at(month, day): return datetime(2026, month, day, tzinfo=UTC)
print(prepare_months(ahead=2, now=at(1, 31)))
print(prepare_months(ahead=2, now=at(1, 31)))
print(bulk_create_by_month([Sample(timestamp=at(m, d), value=m + d / 100)
    for m in (1, 2, 3) for d in (1, 15)]))
print([row.value for row in query_months(Sample, at(1, 10), at(3, 10))])
print([row.value for row in query_months(Sample, at(1, 1), at(4, 1), order="-timestamp", limit=3)])
print([row.value for row in query_months(Sample, at(1, 1), at(6, 1), limit=1,
    narrow=lambda rows: rows.filter(value__gt=2))])
print(month_aliases(Sample, at(1, 1), at(2, 1)))
Sample(timestamp=at(2, 20), value=9).save()
print(Sample.objects.using("{prefix}_2026_02").count())
print([t for t in connections["{prefix}_2026_02"].introspection.table_names()])
if connection.vendor == "postgresql":
    for month in (1, 2, 3):
        connections["{prefix}_2026_%02d" % month].close()
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE {prefix}_2026_%02d" % month)
""")
    months = [f"{prefix}_2026_{month:02d}" for month in (1, 2, 3)]
    assert output.splitlines() == [
        str(months),
        "[]",
        str(dict.fromkeys(months, 2)),
        "[1.15, 2.01, 2.15, 3.01]",
        "[3.15, 3.01, 2.15]",
        "[2.01]",
        str(months[:1]),
        "3",
        "['django_migrations', 'timeseries_sample']",
    ]


def test_c_migrate_all_creates_the_months(host: Host) -> None:
    """The command does what beat does, so that a first deploy has its months."""
    host.env["HOST_RULES"] = '{"months": {"timeseries": {}}}'
    output = host.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    assert output.count("month prepared") == 3
    assert "timeseries -> timeseries_%Y_%m (TimeRouter)" in output
    made = host.python(
        "from databases.host.timeseries.models import Sample; from django.utils import timezone; "
        "Sample.objects.create(timestamp=timezone.now(), value=1); print(Sample.objects.count())"
    )
    assert made == "1"


def test_c_multi_database_manager(make_aliases: Make, make_model: Make, use_routers: Make) -> None:
    """``get_queryset()`` and ``create()`` on its alias; a wrong alias is named."""
    make_aliases("analytics")
    use_routers()
    model = make_model(
        "reports", "Report", objects=models.Manager(), bound=MultiDatabaseManager("analytics")
    )
    with connections["analytics"].schema_editor() as editor:
        editor.create_model(model)
    made = model.bound.create(title="one")
    assert made._state.db == "analytics"
    assert model.bound.get_queryset().db == "analytics"
    assert model.bound.get(title="one") == made
    assert model.bound.db_manager("default").all().db == "default"
    lost = make_model("reports", "Lost", bound=MultiDatabaseManager("nope"))
    with pytest.raises(ImproperlyConfigured, match=r"MultiDatabaseManager of Lost names 'nope'"):
        lost.bound.all()


def test_c_bulk_upsert(make_aliases: Make, make_model: Make, use_routers: Make) -> None:
    """Inserts and updates in one statement a batch; of two rows with one key the later counts."""
    make_aliases("analytics")
    use_routers()
    model = make_model(
        "reports",
        "Count",
        day=models.IntegerField(unique=True),
        views=models.IntegerField(default=0),
    )
    with connections["analytics"].schema_editor() as editor:
        editor.create_model(model)

    def put(*rows: tuple[int, int], **options: Any) -> list[tuple[int, int]]:
        made = [model(day=day, views=views) for day, views in rows]
        options = {"unique_fields": ["day"], "using": "analytics", **options}
        bulk_upsert(model, made, **options)
        return list(model.objects.using("analytics").order_by("day").values_list("day", "views"))

    assert put((1, 10), (2, 20)) == [(1, 10), (2, 20)]
    assert put((2, 21), (3, 30), (3, 31), batch_size=1) == [(1, 10), (2, 21), (3, 31)]
    assert put((1, 99), update_fields=["title"]) == [(1, 10), (2, 21), (3, 31)]
    assert put() == [(1, 10), (2, 21), (3, 31)]
    with pytest.raises(ValueError, match="unique_fields is empty"):
        put((1, 1), unique_fields=[])


def test_c_dashboard_data_cached_across_databases_with_a_stated_age() -> None:
    """One read a period, and the value says when it was read."""
    cache.clear()
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    first = cached_read("tailrace:test", read, max_age_seconds=300)
    again = cached_read("tailrace:test", read, max_age_seconds=300)
    assert (first.value, again.value, len(reads)) == (1, 1, 1)
    assert again.read_at == first.read_at
    assert 0 <= again.age_seconds < 5
    assert cached_read("tailrace:test", read, max_age_seconds=0).value == 2
    old = CachedRead(value=1, read_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert old.age_seconds > 1000
    cache.clear()
