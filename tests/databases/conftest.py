"""Aliases and models made up for a test, and the host project run as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.apps.registry import Apps
from django.db import connections, models, router
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.models import Model

from tailrace.django_integration.routers import forget_writes

TESTS = Path(__file__).resolve().parent.parent
COMMAND_TIMEOUT_SECONDS = 60


@pytest.fixture
def make_aliases(tmp_path: Path, django_db_blocker: Any) -> Iterator[Callable[..., None]]:
    """Add SQLite aliases: ``make_aliases("replica", blog_db={"TEST": {"MIRROR": "default"}})``.

    ``default`` is one of them, so no test here touches the database of the whole test run.
    """
    before = dict(connections.settings)

    def make(*names: str, **configs: dict[str, Any]) -> None:
        for name in ("default", *names, *configs):
            given = configs.get(name, {})
            config = {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(tmp_path / f"{name}.sqlite3"),
                **given,
            }
            connections.settings[name] = connections.configure_settings(
                {"default": connections.settings["default"], name: config}
            )[name]
            connections[name] = DatabaseWrapper(connections.settings[name], name)

    with django_db_blocker.unblock():
        held = connections["default"]
        connections.settings.clear()
        connections.settings["default"] = before["default"]
        make()
        yield make
        for name in list(connections.settings):
            connections[name].close()
            if name != "default":
                del connections[name]
        connections.settings.clear()
        connections.settings.update(before)
        connections["default"] = held


@pytest.fixture
def use_routers() -> Iterator[Callable[..., None]]:
    """Install routers for the test: ``use_routers(LabelRouter({...}), ...)``."""
    before = router.routers

    def use(*routers: object) -> None:
        router.routers = list(routers)

    forget_writes()
    yield use
    router.routers = before
    forget_writes()


@pytest.fixture
def make_model() -> Callable[..., type[Model]]:
    """Make a model of any app: ``make_model("blog", "Post", author=models.ForeignKey(...))``."""
    registry = Apps()

    def make(app_label: str, name: str = "Thing", **attributes: Any) -> type[Model]:
        if not attributes and name.lower() in registry.all_models[app_label]:
            return registry.all_models[app_label][name.lower()]
        meta = type("Meta", (), {"app_label": app_label, "apps": registry})
        body = {"__module__": __name__, "Meta": meta, "title": models.CharField(max_length=50)}
        return type(name, (models.Model,), {**body, **attributes})

    return make


@dataclass
class Host:
    """The host project in ``databases/host``, run as its own processes."""

    data_dir: Path
    env: dict[str, str] = field(default_factory=dict)
    settings: str = "databases.host.settings.env"

    def environ(self, **extra: str) -> dict[str, str]:
        """The environment of the host's processes."""
        kept = {name: value for name, value in os.environ.items() if "DATABASE" not in name}
        return {
            **kept,
            "DJANGO_SETTINGS_MODULE": self.settings,
            "HOST_DATA_DIR": str(self.data_dir),
            "PYTHONPATH": str(TESTS),
            "PYTHONUNBUFFERED": "1",
            **self.env,
            **extra,
        }

    def start(self, *args: str, **extra: str) -> subprocess.Popen[str]:
        """Start ``django-admin`` with these arguments."""
        return subprocess.Popen(
            [sys.executable, "-m", "django", *args],
            env=self.environ(**extra),
            cwd=self.data_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *args: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        """Run ``django-admin`` with these arguments to its end."""
        return subprocess.run(
            [sys.executable, "-m", "django", *args],
            env=self.environ(**extra),
            cwd=self.data_dir,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )

    def ok(self, *args: str, **extra: str) -> str:
        """Run a command that must end well, and return its output."""
        done = self.run(*args, **extra)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def python(self, code: str, **extra: str) -> str:
        """Run Python code with the project set up, and return its output."""
        return self.ok("shell", "-v", "0", "-c", code, **extra).strip()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host project with ``default`` in a SQLite file; add aliases in ``host.env``."""
    return Host(tmp_path, {"DATABASE__URL": f"sqlite:///{tmp_path}/default.sqlite3"})
