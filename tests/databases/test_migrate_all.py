"""``migrate_all`` and ``migrator``: plan, check, dry run, repair, lock, aliases that are down."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from databases.conftest import Host

HALFWAY = "databases.host.halfway.apps.Config"
QUIET = ("--skip-makemigrations", "--non-interactive")


def sqlite(host: Host, name: str, *statements: str) -> None:
    """Change a SQLite database behind Django's back."""
    connection = sqlite3.connect(host.data_dir / f"{name}.sqlite3")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def tables(host: Host, name: str) -> set[str]:
    """List the tables of a SQLite database."""
    connection = sqlite3.connect(host.data_dir / f"{name}.sqlite3")
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    return {row[0] for row in rows} - {"sqlite_sequence"}


@pytest.fixture
def two_aliases(host: Host) -> Host:
    """``default`` and ``blog_db``, the app ``blog`` on the latter."""
    host.env["DATABASE__URL_BLOG"] = f"sqlite:///{host.data_dir}/blog.sqlite3"
    host.env["HOST_RULES"] = '{"labels": {"blog": "blog_db"}}'
    return host


def test_d_migrate_all_migrates_every_alias_and_ends_with_0(two_aliases: Host) -> None:
    """Each app lands on its own alias, the plan is shown first, a second run has nothing to do."""
    output = two_aliases.ok("migrate_all", *QUIET)
    assert "blog -> blog_db (LabelRouter)" in output
    assert output.index("Plan:") < output.index("Result:")
    assert re.search(r"blog_db: 1 pending\n    blog: 0001_initial", output)
    assert tables(two_aliases, "blog") == {"django_migrations", "blog_post", "blog_comment"}
    assert "blog_post" not in tables(two_aliases, "default")
    again = two_aliases.ok("migrate_all", *QUIET)
    assert "blog_db: up to date (blog)" in again
    assert "applied" not in again.partition("Result:")[2]


def test_d_migrate_all_check_exits_1_if_anything_is_pending(two_aliases: Host) -> None:
    """And changes nothing; afterwards it exits 0."""
    done = two_aliases.run("migrate_all", "--check")
    assert done.returncode == 1
    assert "Not clean: default, blog_db." in done.stdout
    assert tables(two_aliases, "blog") == set()
    two_aliases.ok("migrate_all", *QUIET)
    assert "All databases are clean." in two_aliases.ok("migrate_all", "--check")


def test_d_migrate_all_check_finds_tables_that_migrations_say_exist_and_do_not(
    two_aliases: Host,
) -> None:
    """A dropped table and a dropped column are named; ``--repair`` says what it does, and does."""
    two_aliases.ok("migrate_all", *QUIET)
    sqlite(two_aliases, "blog", "DROP TABLE blog_comment")
    sqlite(two_aliases, "default", "ALTER TABLE shop_order DROP COLUMN note")
    done = two_aliases.run("migrate_all", "--check")
    assert done.returncode == 1
    assert "RECORDED BUT MISSING: table blog_comment of blog.Comment is not there" in done.stdout
    assert "--repair creates the table blog_comment, empty" in done.stdout
    assert "column note of table shop_order is not there" in done.stdout
    plain = two_aliases.run("migrate_all", *QUIET)
    assert plain.returncode == 1, "a plain run repairs nothing that was not asked for"
    assert "blog_comment" not in tables(two_aliases, "blog")
    repaired = two_aliases.ok("migrate_all", "--repair", *QUIET)
    assert "blog_db: blog creates the table blog_comment, empty." in repaired
    two_aliases.ok("migrate_all", "--check")
    assert "blog_comment" in tables(two_aliases, "blog")


def test_d_migrate_all_check_finds_what_is_present_but_unrecorded(two_aliases: Host) -> None:
    """A lost record is told from a migration that has not run, and ``--repair`` records it."""
    two_aliases.ok("migrate_all", *QUIET)
    sqlite(two_aliases, "blog", "DELETE FROM django_migrations WHERE app = 'blog'")
    done = two_aliases.run("migrate_all", "--check")
    assert done.returncode == 1
    assert "blog.0001_initial: PRESENT BUT UNRECORDED" in done.stdout
    plain = two_aliases.run("migrate_all", *QUIET)
    assert plain.returncode == 1
    assert "--repair records it as applied" in plain.stdout
    two_aliases.ok("migrate_all", "--repair", *QUIET)
    two_aliases.ok("migrate_all", "--check")


def test_d_migrate_all_repair_finishes_a_migration_that_is_half_applied(two_aliases: Host) -> None:
    """Of two tables one is there and none is recorded: the other one is made, and both kept."""
    two_aliases.ok("migrate_all", *QUIET)
    sqlite(
        two_aliases,
        "blog",
        "INSERT INTO blog_post (author_id, title) VALUES (1, 'kept')",
        "DROP TABLE blog_comment",
        "DELETE FROM django_migrations WHERE app = 'blog'",
    )
    done = two_aliases.run("migrate_all", "--check")
    assert "HALF APPLIED: 1 of 2 operations done" in done.stdout
    assert "runs operation 2 (CreateModel: Create model Comment), and records it" in done.stdout
    refused = two_aliases.run("migrate_all", "--repair", "--skip-makemigrations", stdin="n\n")
    assert refused.returncode == 1
    assert "blog_comment" not in tables(two_aliases, "blog")
    answered = two_aliases.run("migrate_all", "--repair", "--skip-makemigrations", stdin="y\n")
    assert answered.returncode == 0, answered.stdout
    two_aliases.ok("migrate_all", "--check")
    count = two_aliases.python(
        "from databases.host.blog.models import *; "
        "print(Post.objects.count(), Comment.objects.count())"
    )
    assert count == "1 0"


def test_d_migrate_all_dry_run_shows_the_plan_and_changes_nothing(two_aliases: Host) -> None:
    """Not even the table of migrations is made, and the exit status is 0."""
    output = two_aliases.ok("migrate_all", "--dry-run")
    assert "blog: 0001_initial" in output
    assert tables(two_aliases, "default") == tables(two_aliases, "blog") == set()


def test_d_migrate_all_skip_makemigrations(host: Host) -> None:
    """Changed models get a migration, except with the flag; ``--check`` only names them."""
    app = host.data_dir / "sketch"
    app.mkdir()
    (app / "__init__.py").touch()
    model = (
        "from django.db import models\nclass Line(models.Model):\n    x = models.IntegerField()\n"
    )
    (app / "models.py").write_text(model)
    (app / "migrations").mkdir()
    (app / "migrations" / "__init__.py").touch()
    host.env |= {"HOST_EXTRA_APPS": "sketch"}
    host.env["PYTHONPATH"] = f"{host.environ()['PYTHONPATH']}:{host.data_dir}"
    checked = host.run("migrate_all", "--check")
    assert checked.returncode == 1
    assert "sketch: models have changed and no migration says so" in checked.stdout
    skipped = host.run("migrate_all", *QUIET)
    assert skipped.returncode == 0, skipped.stdout
    assert not (app / "migrations" / "0001_initial.py").exists()
    host.ok("migrate_all", "--non-interactive")
    assert (app / "migrations" / "0001_initial.py").exists()
    assert "sketch_line" in tables(host, "default")
    host.ok("migrate_all", "--check")


def test_d_migrate_all_names_an_alias_that_is_down_and_finishes_the_others(
    two_aliases: Host,
) -> None:
    """One alias down: exit 1, its name and no password, and the other one migrated."""
    two_aliases.env["DATABASE__URL_ANALYTICS"] = "postgres://me:hunter2secret@127.0.0.1:1/gone"
    done = two_aliases.run("migrate_all", *QUIET)
    assert done.returncode == 1
    assert "analytics: DOWN" in done.stdout
    assert "Not clean: analytics." in done.stdout
    assert "hunter2secret" not in done.stdout
    assert "blog_post" in tables(two_aliases, "blog")
    assert "auth_user" in tables(two_aliases, "default")


def test_d_migrator_auto_database_app(two_aliases: Host) -> None:
    """``migrator --auto --database --app`` migrates just that; 0 clean, 1 not."""
    two_aliases.ok("migrator", "--auto", "--database", "blog_db", "--app", "blog")
    assert "blog_post" in tables(two_aliases, "blog")
    assert tables(two_aliases, "default") == set()
    unknown = two_aliases.run("migrator", "--auto", "--database", "nope")
    assert unknown.returncode == 1
    assert "There is no database 'nope'. DATABASES has: default, blog_db." in unknown.stdout
    assert two_aliases.run("migrator", "--auto", "--app", "nope").returncode == 1
    two_aliases.ok("migrator", "--auto")
    assert "shop_order" in tables(two_aliases, "default")


def test_d_migrator_without_auto_asks(two_aliases: Host) -> None:
    """No answer, nothing done; a number migrates that alias only."""
    nothing = two_aliases.run("migrator", stdin="")
    assert nothing.returncode == 1
    assert "Nothing was done." in nothing.stdout
    assert tables(two_aliases, "blog") == set()
    one = two_aliases.run("migrator", stdin="2\n")
    assert one.returncode == 0, one.stdout
    assert "blog_post" in tables(two_aliases, "blog")
    assert tables(two_aliases, "default") == set()


def test_a_migrate_tailrace_on_its_alias_puts_only_its_own_tables_there(host: Host) -> None:
    """``migrate tailrace --database=telemetry``: its tables there, and nothing else lands there."""
    host.env["DATABASE__URL_TELEMETRY"] = f"sqlite:///{host.data_dir}/telemetry.sqlite3"
    host.ok("migrate", "tailrace", "--database=telemetry", "-v", "0")
    first = tables(host, "telemetry")
    assert first - {"django_migrations"}
    assert all(name.startswith("tailrace_") for name in first - {"django_migrations"})
    host.ok("migrate", "--database=telemetry", "-v", "0")
    assert tables(host, "telemetry") == first
    host.ok("migrate", "-v", "0")
    assert not any(name.startswith("tailrace_") for name in tables(host, "default"))


@pytest.fixture(params=["sqlite", "postgresql"])
def halfway(request: pytest.FixtureRequest, host: Host) -> Host:
    """The host with the app whose migrations can hang, on either engine."""
    if request.param == "postgresql":
        make: Callable[[str], str] = request.getfixturevalue("postgres_database")
        host.env["DATABASE__URL"] = make("halfway")
    host.env["HOST_EXTRA_APPS"] = HALFWAY
    return host


def start_and_kill(host: Host, name: str) -> str:
    """Start ``migrate_all``, and kill it -9 when it hangs in a migration."""
    run = host.start("migrate_all", *QUIET, HALFWAY_HANG=name)
    wait_for_file(host.data_dir / "hanging", run)
    run.send_signal(signal.SIGKILL)
    output, _ = run.communicate(timeout=10)
    (host.data_dir / "hanging").unlink()
    return output


def wait_for_file(path: Path, run: subprocess.Popen[str]) -> None:
    """Wait until the process has made a file."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline, "it never got there"
        time.sleep(0.02)


@pytest.mark.faults
def test_d_kill_9_midway_check_says_what_is_half_done_and_the_next_run_mends_it(
    halfway: Host,
) -> None:
    """Cut off in the second of four operations: done ones are kept, the rest runs, once."""
    start_and_kill(halfway, "0002")
    checked = halfway.run("migrate_all", "--check", "--skip-makemigrations")
    assert checked.returncode == 1
    assert "halfway.0002_without_transaction: CUT OFF: 1 of 4 operations done" in checked.stdout
    assert "cut off in operation 2 (RunPython" in checked.stdout
    mended = halfway.ok("migrate_all", *QUIET)
    assert "halfway.0002_without_transaction runs operation 2 (RunPython" in mended
    halfway.ok("migrate_all", "--check", "--skip-makemigrations")
    works = "from databases.host.halfway.models import Part; Part(weight=1).save(); print('ok')"
    assert halfway.python(works) == "ok"
    left = "from django.db import connection as c; print([t for t in c.introspection.table_names()"
    assert halfway.python(left + " if 'journal' in t])") == "[]"
    assert (halfway.data_dir / "runs-0002").read_text() == "run\nrun\n"


@pytest.mark.faults
def test_d_kill_9_inside_a_transaction_leaves_nothing_and_the_next_run_goes_on(
    halfway: Host,
) -> None:
    """An atomic migration that is cut off is simply pending."""
    start_and_kill(halfway, "0003")
    checked = halfway.run("migrate_all", "--check", "--skip-makemigrations")
    assert checked.returncode == 1
    assert "halfway: 0003_in_a_transaction" in checked.stdout
    assert "CUT OFF" not in checked.stdout
    assert "HALF APPLIED" not in checked.stdout
    halfway.ok("migrate_all", *QUIET)
    halfway.ok("migrate_all", "--check", "--skip-makemigrations")


@pytest.mark.faults
def test_d_kill_9_of_djangos_own_migrate_is_found_and_repaired(halfway: Host) -> None:
    """Without our journal the traces in the database tell; that is only done when asked for."""
    run = halfway.start("migrate", "halfway", HALFWAY_HANG="0002")
    wait_for_file(halfway.data_dir / "hanging", run)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=10)
    checked = halfway.run("migrate_all", "--check", "--skip-makemigrations")
    assert "HALF APPLIED: 1 of 4 operations done" in checked.stdout
    assert halfway.run("migrate_all", *QUIET).returncode == 1
    halfway.ok("migrate_all", "--repair", *QUIET)
    halfway.ok("migrate_all", "--check", "--skip-makemigrations")


@pytest.mark.faults
def test_d_two_migrate_all_at_once_one_waits_and_both_end_clean(halfway: Host) -> None:
    """Both see the same plan; the lock makes the second one wait, and then find nothing to do."""
    runs = [halfway.start("migrate_all", *QUIET) for _ in range(2)]
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert (halfway.data_dir / "runs-0002").read_text() == "run\n"
    assert (halfway.data_dir / "runs-0003").read_text() == "run\n"


@pytest.mark.faults
def test_d_a_run_waits_for_the_lock_and_says_so(halfway: Host) -> None:
    """A run that hangs holds the lock; the next one says that it waits, and gives up in time."""
    holder = halfway.start("migrate_all", *QUIET, HALFWAY_HANG="0002")
    wait_for_file(halfway.data_dir / "hanging", holder)
    waiter = halfway.run("migrate_all", *QUIET, "--lock-timeout", "1")
    assert waiter.returncode == 1
    assert "default: another run is migrating this database; waiting for it." in waiter.stdout
    assert "another process has held the lock" in waiter.stdout
    holder.kill()
    holder.communicate(timeout=10)
    halfway.ok("migrate_all", *QUIET)
