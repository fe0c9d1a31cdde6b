"""Fixtures: a host project with the admin and Tailrace, in processes of its own or in this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

TESTS_DIR = Path(__file__).resolve().parent
COMMAND_TIMEOUT_SECONDS = 60


@dataclass
class AdminSite:
    """The project in ``admin/``, run as its own processes."""

    directory: Path
    database_url: str
    telemetry_url: str = ""
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self, fault: str = "") -> dict[str, str]:
        """The environment of the project's processes, with a fault armed."""
        kept = {name: text for name, text in os.environ.items() if not name.endswith("_URL")}
        return {
            **kept,
            "DJANGO_SETTINGS_MODULE": "admin.settings",
            "ADMIN_DATABASE_URL": self.database_url,
            "ADMIN_TELEMETRY_URL": self.telemetry_url,
            "PYTHONPATH": str(TESTS_DIR),
            "PYTHONUNBUFFERED": "1",
            "TAILRACE_FAULT": fault,
        }

    def start(self, *args: str, fault: str = "") -> subprocess.Popen[str]:
        """Start a management command."""
        process = subprocess.Popen(
            [sys.executable, "-m", "django", *args],
            env=self.environment(fault),
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def run(self, *args: str, fault: str = "") -> tuple[int, str]:
        """Run a management command to its end; return its status and what it printed."""
        process = self.start(*args, fault=fault)
        output, _ = process.communicate(timeout=COMMAND_TIMEOUT_SECONDS)
        return process.returncode, output

    def python(self, code: str) -> str:
        """Run Python code with the project set up and ``admin.seed`` imported."""
        status, output = self.run("shell", "-v", "0", "-c", f"from admin import seed\n{code}")
        assert status == 0, output
        return output

    def books(self) -> dict[str, Any]:
        """See :func:`admin.seed.books`."""
        books: dict[str, Any] = json.loads(self.python("seed.print_books()").splitlines()[-1])
        return books

    def stop(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def admin_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy."""
    directory = tmp_path_factory.mktemp("admin")
    path = directory / "template.sqlite3"
    site = AdminSite(directory, f"sqlite:///{path}")
    status, output = site.run("migrate", "-v", "0")
    assert status == 0, output
    return path


def _sqlite_site(template: Path, directory: Path, with_telemetry: bool = False) -> AdminSite:
    urls = []
    for name in ("default", "telemetry") if with_telemetry else ("default",):
        shutil.copy(template, directory / f"{name}.sqlite3")
        urls.append(f"sqlite:///{directory / name}.sqlite3")
    return AdminSite(directory, *urls)


@pytest.fixture(params=["sqlite", "postgres"])
def admin_site(
    request: pytest.FixtureRequest, tmp_path: Path, admin_template: Path
) -> Iterator[AdminSite]:
    """A migrated site, on SQLite and on PostgreSQL."""
    if request.param == "postgres":
        make: Callable[[str], str] = request.getfixturevalue("postgres_database")
        site = AdminSite(tmp_path, make("admin"))
        status, output = site.run("migrate", "-v", "0")
        assert status == 0, output
    else:
        site = _sqlite_site(admin_template, tmp_path)
    yield site
    site.stop()


@pytest.fixture
def sqlite_admin_site(tmp_path: Path, admin_template: Path) -> Iterator[AdminSite]:
    """A migrated site on SQLite files ``default`` and ``telemetry``, each a backend's."""
    site = _sqlite_site(admin_template, tmp_path, with_telemetry=True)
    yield site
    site.stop()


@pytest.fixture
def admin_databases(
    tmp_path: Path, admin_template: Path, django_db_blocker: Any
) -> Iterator[Callable[..., None]]:
    """Make aliases of this process mean migrated SQLite files of the test's own.

    ``default`` is one already; ``admin_databases("telemetry")`` adds more.
    """
    import admin.settings
    from django.db.backends.sqlite3.base import DatabaseWrapper

    before, held = dict(connections.settings), connections["default"]
    connections.settings.clear()

    def make(*names: str) -> None:
        for name in names:
            path = tmp_path / f"{name}.sqlite3"
            shutil.copy(admin_template, path)
            config = admin.settings.database(f"sqlite:///{path}")
            connections.settings[name] = connections.configure_settings(
                {"default": connections.settings.get("default", config), name: config}
            )[name]
            connections[name] = DatabaseWrapper(connections.settings[name], name)

    with django_db_blocker.unblock():
        _forget_private_connections()
        make("default")
        with override_settings(
            TAILRACE={"ENABLED": False, "REDIS_URL": "redis://127.0.0.1:1/0"},
            ROOT_URLCONF="admin.urls",
            MIDDLEWARE=admin.settings.MIDDLEWARE,
            DATABASE_ROUTERS=[],
        ):
            yield make
        _forget_private_connections()
        for name in list(connections.settings):
            connections[name].close()
            if name != "default":
                del connections[name]
        connections.settings.clear()
        connections.settings.update(before)
        connections["default"] = held


def _forget_private_connections() -> None:
    """They are kept by alias, and the alias means another file in the next test."""
    from tailrace.backends import private_connection

    private_connection.close_private_connections()
    private_connection._own.__dict__.clear()
