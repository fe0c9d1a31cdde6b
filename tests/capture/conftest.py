"""Events as the recorders make them, without a flusher or Redis behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from capture.models import Item
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.test import override_settings

from tailrace.django_integration import guard, recorders, wiring
from tailrace.django_integration.recorders import exceptions, queries, requests
from tailrace.pipeline import suppress_recording
from tailrace.pipeline.config import parse
from tailrace.pipeline.recording import configure

MIDDLEWARE = "tailrace.django_integration.middleware.TelemetryMiddleware"
ALIASES = ("capture_one", "capture_two")


class Made(NamedTuple):
    """One finished event."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, Any]
    trace_id: str | None
    time_ns: int


class Emitted(list[tuple[Any, ...]]):
    """Stands for the buffer: the arguments of ``emit``."""

    def emit(self, *arguments: Any) -> None:
        self.append(arguments)

    def made(self, measurement: str | None = None) -> list[Made]:
        """Finish the events, as the flusher would."""
        return [
            Made(name, *finish(raw), trace_id, time_ns)
            for name, time_ns, finish, raw, trace_id in self
            if measurement in (None, name)
        ]

    def one(self, measurement: str) -> Made:
        made = self.made(measurement)
        assert len(made) == 1, made
        return made[0]


@pytest.fixture(autouse=True)
def _connections_may_be_looked_at(django_db_blocker: Any) -> Iterator[None]:
    """The end of a request looks at each open connection, another test's among them."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emitted]:
    """Recorders emit into a list; afterwards the project's configuration is back."""
    recorders.uninstall_recorders()
    configure(None)
    events = Emitted()
    with monkeypatch.context() as patch:
        for module in (requests, queries, exceptions):
            patch.setattr(module, "emit", events.emit)
        yield events
        recorders.uninstall_recorders()
    wiring.wire()


@pytest.fixture(autouse=True)
def unshielded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a hook fails the test."""
    monkeypatch.setattr(guard, "is_shielded", False)


@pytest.fixture
def install(emitted: Emitted) -> Callable[..., list[recorders.Recorder]]:
    """Install recorders by settings."""

    def install_by(**settings: Any) -> list[recorders.Recorder]:
        config, problems = parse(settings)
        assert problems == []
        return recorders.install_recorders(config)

    return install_by


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    """Serve this folder's urls.py behind our middleware alone."""
    with override_settings(
        ROOT_URLCONF="capture.urls", MIDDLEWARE=[MIDDLEWARE], ALLOWED_HOSTS=["*"], DEBUG=False
    ):
        yield


@pytest.fixture
def databases(tmp_path: Path, django_db_blocker: Any) -> Iterator[tuple[str, ...]]:
    """Two SQLite files, each an alias of its own, with a table of items."""
    template = connections.settings["default"]
    for alias in ALIASES:
        connections.settings[alias] = {
            **template,
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / f"{alias}.sqlite3"),
            "OPTIONS": {},
            "CONN_MAX_AGE": 0,
        }
    with django_db_blocker.unblock():
        with suppress_recording():
            for alias in ALIASES:
                with connections[alias].schema_editor() as editor:
                    editor.create_model(Item)
                Item.objects.using(alias).bulk_create([Item(name="a"), Item(name="b")])
                connections[alias].close()
        yield ALIASES
        for alias in ALIASES:
            connections[alias].close()
            del connections[alias]
            del connections.settings[alias]


def handler(is_async: bool, middleware: list[str] | None = None) -> BaseHandler:
    """Return a stack of middleware and views, without a server around it."""
    stack = BaseHandler()
    with override_settings(MIDDLEWARE=[MIDDLEWARE] if middleware is None else middleware):
        stack.load_middleware(is_async=is_async)
    return stack
