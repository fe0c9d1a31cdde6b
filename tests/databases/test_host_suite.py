"""The tests of a host project, with our routers installed, and nothing changed in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from databases.conftest import Host

SUITE = Path(__file__).parent / "host" / "suite.py"


def three_aliases(host: Host, urls: dict[str, str]) -> Host:
    """``default``, ``replica`` and ``blog_db``, the latter two mirrored in tests."""
    host.env.update(urls)
    host.env["HOST_MIRROR"] = "1"
    host.env["HOST_RULES"] = '{"labels": {"blog": "blog_db"}}'
    return host


def test_the_suite_has_no_databases_of_its_own() -> None:
    """What is shown here is worth something only if the tests are plain ones."""
    assert "databases =" not in SUITE.read_text()


def test_d_a_host_suite_with_three_aliases_runs_with_the_routers_installed(host: Host) -> None:
    """On SQLite, by Django's own runner."""
    folder = host.data_dir
    three_aliases(
        host,
        {
            "DATABASE__URL_REPLICA": f"sqlite:///{folder}/default.sqlite3",
            "DATABASE__URL_BLOG": f"sqlite:///{folder}/blog.sqlite3",
        },
    )
    output = host.ok("test", "databases.host.suite", "--noinput")
    assert "Ran 8 tests" in output
    assert "OK" in output


@pytest.mark.faults
def test_d_a_host_suite_with_three_aliases_runs_on_postgresql(
    host: Host, postgres_primary: object
) -> None:
    """On PostgreSQL, where the test database has another name than the configured one."""
    url = postgres_primary.url  # type: ignore[attr-defined]
    three_aliases(
        host,
        {
            "DATABASE__URL": url("suite"),
            "DATABASE__URL_REPLICA": url("suite"),
            "DATABASE__URL_BLOG": url("suite_blog"),
        },
    )
    output = host.ok("test", "databases.host.suite", "--noinput")
    assert "Ran 8 tests" in output


def test_a_suite_with_an_alias_for_telemetry_needs_no_databases_either(host: Host) -> None:
    """``default``, ``replica`` and ``telemetry``; only the replica is a mirror."""
    folder = host.data_dir
    host.env["DATABASE__URL_REPLICA"] = f"sqlite:///{folder}/default.sqlite3"
    host.env["DATABASE__URL_TELEMETRY"] = f"sqlite:///{folder}/telemetry.sqlite3"
    output = host.ok("test", "databases.host.suite", "--noinput")
    assert "Ran 8 tests" in output


def test_a_suite_under_pytest_needs_no_databases_either(host: Host) -> None:
    """The same file, collected by pytest-django."""
    folder = host.data_dir
    three_aliases(
        host,
        {
            "DATABASE__URL_REPLICA": f"sqlite:///{folder}/default.sqlite3",
            "DATABASE__URL_BLOG": f"sqlite:///{folder}/blog.sqlite3",
        },
    )
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(SUITE)],
        env=host.environ(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout
