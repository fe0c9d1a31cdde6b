"""Sections C and D of what Tailrace must cover, line by line: where each is tested.

The names on the right are tests of this folder; ``test_every_line_has_its_test`` looks them up.

C router by app label: test_c_router_by_app_label
C router analytics: test_c_router_analytics_its_label_there_and_nothing_else_there
C router legacy: test_c_router_legacy_unmanaged_never_migrated
C router read/write split: test_c_read_your_writes_within_a_request
C router load-balanced replicas: test_c_load_balanced_replicas_take_turns
C router by month: test_c_router_by_month
C MultiDatabaseManager: test_c_multi_database_manager
C bulk events on the analytics alias: test_c_bulk_events_go_through_the_pipeline_to_analytics
C upsert of cache rows: test_c_bulk_upsert
C check_all_databases: test_c_check_all_databases
C get_database_sizes: test_c_get_database_sizes
C get_slow_queries: test_c_get_slow_queries
C get_connection_info: test_c_get_connection_info_without_secrets
C close_old_connections, reset_queries: test_c_close_old_connections_and_reset_queries
C vacuum_databases: test_c_bloat_and_vacuum_databases
C cleanup: test_c_cleanup_old_analytics_data_and_expired_cache_entries
C tailrace_maintain: test_c_tailrace_maintain_cleanup_vacuum_health_check_database
C maintenance as beat tasks: test_c_maintenance_as_a_beat_task
C cached dashboard data: test_c_dashboard_data_cached_across_databases_with_a_stated_age
C the page that states the age: test_c_the_databases_page_states_the_age_of_its_figures
C one alias down: test_c_one_alias_down_degrades_and_does_not_break
C per-alias transactions: test_c_transactions_are_per_alias
C RunSQL target_db: test_c_run_sql_hints_target_db_runs_on_that_alias_only
C CREATE INDEX CONCURRENTLY: test_c_create_index_concurrently_needs_atomic_false
C its repair: test_c_repair_finds_and_drops_an_invalid_index_that_djangos_migrate_left
C migrate one alias, one app: test_d_migrator_auto_database_app
C migrate all: test_d_migrate_all_migrates_every_alias_and_ends_with_0
C pooling, web and threads: test_c_connection_pooling_is_used_by_web_worker_and_commands
C pooling, worker: test_c_connection_pooling_in_a_celery_worker_of_threads
C pooling, commands: test_c_connection_pooling_in_commands
C monthly databases: test_c_months_are_created_ahead_and_queried_together
D DATABASE_ROUTING_RULES: test_d_database_routing_rules_is_read_from_exactly_this_setting
D from_url: test_d_database_config_from_url
D names from the environment: test_d_database_url_names_and_rules
D an alias only if its URL is set: test_d_an_alias_exists_only_if_its_url_is_set
D ReadReplicaRouter: test_d_replica_router_80_percent_of_reads_to_the_replica
D --skip-makemigrations: test_d_migrate_all_skip_makemigrations
D --check: test_d_migrate_all_check_finds_tables_that_migrations_say_exist_and_do_not
D --repair: test_d_migrate_all_repair_finishes_a_migration_that_is_half_applied
D --dry-run: test_d_migrate_all_dry_run_shows_the_plan_and_changes_nothing
D migrator exit status: test_d_migrator_without_auto_asks
D cross-database keys: test_d_cross_database_foreign_keys_with_three_aliases
D three databases: test_d_a_host_suite_with_three_aliases_runs_with_the_routers_installed
D five databases: test_d_five_databases_end_to_end
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from databases.conftest import Host

EVENTS = 5000


def test_every_line_has_its_test() -> None:
    """No test of the table has been renamed or lost."""
    named = re.findall(r"^[CD] .*: (test_\w+)$", __doc__ or "", re.MULTILINE)
    assert len(named) > 40
    code = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert not [name for name in named if f"def {name}(" not in code]


@pytest.fixture(params=["sqlite", "postgresql"])
def analytics_host(request: pytest.FixtureRequest, host: Host, redis_url: str) -> Host:
    """The host that stores its events on the alias ``analytics``."""
    host.settings = "databases.host.settings.recording"
    host.env["HOST_REDIS_URL"] = redis_url
    host.env["HOST_STORAGE_ALIAS"] = "analytics"
    host.env["DATABASE__URL_ANALYTICS"] = f"sqlite:///{host.data_dir}/analytics.sqlite3"
    if request.param == "postgresql":
        make: Callable[[str], str] = request.getfixturevalue("postgres_database")
        host.env["DATABASE__URL_ANALYTICS"] = make("analytics")
    host.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    return host


def test_c_bulk_events_go_through_the_pipeline_to_analytics(analytics_host: Host) -> None:
    """Each event once, on that alias; ``default`` has no table for them; the ledger balances."""
    analytics_host.python(
        "from tailrace.pipeline import flush, record\n"
        f"for n in range({EVENTS}): record('page.view', tags={{'path': '/'}}, fields={{'n': n}})\n"
        "assert flush(10)"
    )
    analytics_host.ok("tailrace_drain", "--until-empty", "--timeout", "10")
    output = analytics_host.python(
        "from django.db import connections\n"
        "from tailrace.backends import get_backend, get_storage_db_alias\n"
        "rows = get_backend().query('page.view', limit=100_000)\n"
        "numbers = sorted(row['fields']['n'] for row in rows)\n"
        f"print(get_storage_db_alias(), len(rows), numbers == list(range({EVENTS})))\n"
        "names = connections['default'].introspection.table_names()\n"
        "print([name for name in names if name.startswith('tailrace_')])"
    )
    assert output.splitlines()[-2:] == [f"analytics {EVENTS} True", "[]"]
    analytics_host.ok("tailrace_status")


def test_c_the_databases_page_states_the_age_of_its_figures(host: Host) -> None:
    """The second look is answered from the cache, and says how old it is."""
    host.ok("migrate", "-v", "0")
    output = host.python(
        "import re, time\n"
        "from django.contrib.auth.models import User\n"
        "from django.test import Client\n"
        "User.objects.create_superuser('boss', password='boss')\n"
        "client = Client()\n"
        "client.login(username='boss', password='boss')\n"
        "for pause in (0, 2):\n"
        "    time.sleep(pause)\n"
        "    page = client.get('/admin/tailrace/databases/').content.decode()\n"
        "    print(re.search(r'figures below are (\\d+) seconds old', page)[1])\n"
    )
    first, second = map(int, output.splitlines()[-2:])
    assert first == 0
    assert 2 <= second < 15


def test_c_transactions_are_per_alias(host: Host) -> None:
    """A rollback on one alias leaves the other's rows: there is no distributed transaction."""
    host.env["DATABASE__URL_BLOG"] = f"sqlite:///{host.data_dir}/blog.sqlite3"
    host.env["HOST_RULES"] = '{"labels": {"blog": "blog_db"}}'
    host.ok("migrate_all", "--skip-makemigrations", "--non-interactive")
    output = host.python(
        "from databases.host.blog.models import Post\n"
        "from databases.host.shop.models import Order\n"
        "from django.contrib.auth.models import User\n"
        "from django.db import transaction\n"
        "user = User.objects.create_user('ann')\n"
        "with transaction.atomic():\n"
        "    Order.objects.create(number=1)\n"
        "    Post.objects.create(author=user, title='kept')\n"
        "    transaction.set_rollback(True)\n"
        "print(Order.objects.count(), Post.objects.count())"
    )
    assert output.splitlines()[-1] == "0 1"
