"""Every system check, with what triggers it and what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.core import checks
from django.test import override_settings
from servers import RedisServer, free_port

MIDDLEWARE = "tailrace.django_integration.middleware.TelemetryMiddleware"
DEFAULT = "tailrace.backends.database.DatabaseBackend"
ON_ALIAS = "tailrace.backends.django_db.DjangoDBBackend"


def _messages(**tailrace: Any) -> dict[str, checks.CheckMessage]:
    """Return what Tailrace's checks say under these settings, by the last part of the id."""
    quiet = {"ENABLED": False, **tailrace}
    with override_settings(TAILRACE=quiet):
        found = checks.run_checks(tags=["tailrace"])
    return {(message.id or "").removeprefix("tailrace."): message for message in found}


def test_an_unknown_setting_is_an_error_that_names_the_one_that_was_meant() -> None:
    message = _messages(REDIS_ULR="redis://localhost")["E001"]
    assert "REDIS_ULR" in message.msg
    assert "'REDIS_URL'" in str(message.hint)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("SHARDS", 0, ">= 1"),
        ("SHARDS", "four", "`int`"),
        ("SAMPLING", {"query": 1.5}, "<= 1"),
        ("OVERFLOW", "explode", "explode"),
        ("REDIS_URL", "http://localhost", "scheme"),
        ("BACKENDS", {}, "nothing would be stored"),
        ("BACKENDS", {"default": {"BACKND": "x"}}, "BACKND"),
    ],
)
def test_a_wrong_value_is_an_error_that_says_what_it_may_be(
    setting: str, value: object, said: str
) -> None:
    assert said in _messages(**{setting: value})["E002"].msg


def test_settings_that_are_no_dict() -> None:
    with override_settings(TAILRACE=["REDIS_URL"]):
        found = checks.run_checks(tags=["tailrace"])
    assert "must be a dict" in next(m.msg for m in found if m.id == "tailrace.E002")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"BACKEND": ON_ALIAS, "OPTIONS": {"ALIAS": "nowhere"}}, "There are: default"),
        ({"BACKEND": "tailrace.backends.nothing.Here"}, "nothing"),
        ({"BACKEND": "django.http.HttpRequest"}, "BaseBackend"),
        ({"BACKEND": DEFAULT, "OPTIONS": {"ALIAS": "telemetry"}}, "does not know"),
        ({"BACKEND": ON_ALIAS, "OPTIONS": {"ALIAS": 7}}, "write a str"),
    ],
)
def test_a_backend_that_cannot_be_made(entry: dict[str, Any], said: str) -> None:
    messages = _messages(BACKENDS={"default": entry})
    assert said in messages["E003"].msg


def test_an_unknown_recorder() -> None:
    assert "querys" in _messages(RECORDERS={"querys": {}})["E004"].msg


def test_a_middleware_that_is_missing_or_not_the_first(tmp_path: Path) -> None:
    on = {"ENABLED": True, "REDIS_URL": "unix:///nowhere", "SPOOL_DIR": str(tmp_path)}
    without = [name for name in settings.MIDDLEWARE if name != MIDDLEWARE]
    with override_settings(MIDDLEWARE=without):
        assert MIDDLEWARE in str(_messages(**on)["W001"].hint)
        assert "W001" not in _messages(**on, RECORDERS={"requests": False})
    with override_settings(MIDDLEWARE=[*without, MIDDLEWARE]):
        assert "SessionMiddleware" in _messages(**on)["W002"].msg
    with override_settings(MIDDLEWARE=[MIDDLEWARE, *without]):
        assert not {"W001", "W002"} & _messages(**on).keys()


def test_a_redis_that_does_not_answer_and_no_password_in_what_is_said(tmp_path: Path) -> None:
    url = f"redis://user:hunter2@127.0.0.1:{free_port()}/0"
    message = _messages(ENABLED=True, REDIS_URL=url, SPOOL_DIR=str(tmp_path))["W003"]
    assert "cannot be reached" in message.msg
    assert str(tmp_path) in str(message.hint)
    assert "hunter2" not in str(message)


@pytest.mark.parametrize(
    ("policy", "is_safe"), [("noeviction", True), ("volatile-lru", True), ("allkeys-lru", False)]
)
def test_an_eviction_policy_that_loses_events(
    make_redis_server: Callable[..., RedisServer], tmp_path: Path, policy: str, is_safe: bool
) -> None:
    server = make_redis_server({"maxmemory-policy": policy})
    messages = _messages(ENABLED=True, REDIS_URL=server.url(), SPOOL_DIR=str(tmp_path))
    assert ("W004" not in messages) == is_safe
    assert "W003" not in messages


@pytest.fixture
def quick_broker() -> Iterator[None]:
    conf = current_app.conf
    before = conf.broker_url, conf.broker_transport_options
    conf.broker_url = "redis://localhost"
    conf.broker_transport_options = {"visibility_timeout": 10}
    yield
    conf.broker_url, conf.broker_transport_options = before


@pytest.mark.usefixtures("quick_broker")
def test_a_broker_that_delivers_again_too_soon() -> None:
    assert "again after 10 s" in _messages()["W005"].msg
    assert "W005" not in _messages(DRAIN_TICK_SECONDS=5)


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_sqlite_without_wal(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    path = tmp_path / "plain.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE something (id)")
        connection.commit()
        plain = {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": {}}
        databases = {**settings.DATABASES, "plain": plain}
        backend = {"BACKEND": ON_ALIAS, "OPTIONS": {"ALIAS": "plain"}}
        with override_settings(DATABASES=databases):
            hint = str(_messages(BACKENDS={"default": backend})["W006"].hint)
            assert "journal_mode=WAL" in hint
            connection.execute("PRAGMA journal_mode=WAL")
            assert "W006" not in _messages(BACKENDS={"default": backend})


def test_good_settings_have_nothing_to_report(redis_url: str, tmp_path: Path) -> None:
    found = _messages(ENABLED=True, REDIS_URL=redis_url, SPOOL_DIR=str(tmp_path))
    assert {id: str(message) for id, message in found.items()} == {}
