"""System checks. ``docs/checks.md`` lists them by id; a test holds the two together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from tailrace.backends.registry import backends
from tailrace.pipeline.errors import BackendError, StreamUnavailable
from tailrace.pipeline.redis_url import safe_url
from tailrace.pipeline.schedule import broker_visibility_seconds
from tailrace.pipeline.stream import Stream

from . import conf
from .reading_routes import check_readings

MIDDLEWARE = "tailrace.django_integration.middleware.TelemetryMiddleware"

# https://redis.io/docs/latest/develop/reference/eviction/: all others remove keys that
# somebody still needs; volatile-* only those with an expiry, which our streams never have.
_SAFE_POLICIES = ("noeviction", "volatile-")
_SQLITE_WAL_OFFSET = 18  # https://www.sqlite.org/fileformat.html, "file format version numbers"

Messages = list[checks.CheckMessage]


def register() -> None:
    """Register the checks."""
    for check in (check_settings, check_backends, check_middleware, check_redis):
        checks.register(check, "tailrace")
    for check in (check_recorders, check_broker, check_sqlite, check_readings):
        checks.register(check, "tailrace")
    from .databases.checks import check_databases
    from .rollup_checks import check_retention, check_rollups

    checks.register(check_rollups, "tailrace")
    checks.register(check_retention, "tailrace")
    checks.register(check_databases, checks.Tags.models)
    # Asks the database, so Django runs it with migrate and check --database only.
    checks.register(check_storages, checks.Tags.database)


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    """E001, E002: every setting is known and has a value that it can have."""
    ids = {"unknown": "tailrace.E001", "invalid": "tailrace.E002"}
    return [
        checks.Error(problem.message, hint=problem.hint, id=ids[problem.kind])
        for problem in conf.get_problems()
    ]


def check_backends(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    """E003: every backend can be made, and the database alias it wants exists."""
    messages: Messages = []
    for alias in conf.get_config().backends:
        try:
            backends.make(alias).setup()
        except ImproperlyConfigured as error:
            messages.append(checks.Error(str(error), id="tailrace.E003"))
    return messages


def check_storages(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Messages:
    """W007: the storage can do what its backend is for."""
    messages: Messages = []
    for alias in conf.get_config().backends:
        try:
            backend = backends.make(alias)
        except ImproperlyConfigured:
            continue  # E003 has said so
        check = getattr(backend, "check", None)
        if check is None or backend.get_db_alias() not in (databases or ()):
            continue
        try:
            messages += check("tailrace.W007")
        except BackendError as error:
            messages.append(checks.Warning(str(error), id="tailrace.W007"))
    return messages


def check_recorders(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    """E004: every recorder and its options are known."""
    from .recorders import recorder_problems

    return [
        checks.Error(problem.message, hint=problem.hint, id="tailrace.E004")
        for problem in recorder_problems(conf.get_config())
    ]


def check_middleware(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    """W001, W002: the middleware is there, and sees the whole request."""
    config = conf.get_config()
    if not config.enabled or config.recorders.get("requests") is False:
        return []
    middleware = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in middleware:
        return [
            checks.Warning(
                "Requests are not recorded: Tailrace's middleware is not in MIDDLEWARE.",
                hint=f"Put {MIDDLEWARE!r} first, or set TAILRACE['RECORDERS']['requests'] = False.",
                id="tailrace.W001",
            )
        ]
    before = middleware[: middleware.index(MIDDLEWARE)]
    if before:
        return [
            checks.Warning(
                "Tailrace's middleware is not the first: what happens in "
                f"{', '.join(before)} is not measured and not part of the trace.",
                hint=f"Move {MIDDLEWARE!r} to the top of MIDDLEWARE.",
                id="tailrace.W002",
            )
        ]
    return []


def check_redis(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    """W003, W004: Redis answers, and keeps what it was given."""
    config = conf.get_config()
    if not config.enabled or any(p.setting == "REDIS_URL" for p in conf.get_problems()):
        return []
    stream = Stream(config, config.redis_timeout_seconds)
    try:
        policy = str(stream.server_info().get("maxmemory_policy", ""))
    except StreamUnavailable as error:
        return [
            checks.Warning(
                str(error),
                hint=f"Until it answers, events wait in {config.spool_path}.",
                id="tailrace.W003",
            )
        ]
    finally:
        stream.close()
    if policy.startswith(_SAFE_POLICIES):
        return []
    return [
        checks.Warning(
            f"Redis at {safe_url(config.redis_url)} may throw events away: its "
            f"maxmemory-policy is {policy}.",
            hint="Use a Redis of its own with `maxmemory-policy noeviction`; Tailrace bounds "
            "its own memory there by TAILRACE['STREAM_MAX_BYTES'].",
            id="tailrace.W004",
        )
    ]


def check_broker(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    """W005: the broker does not deliver a tick again while it still runs."""
    config = conf.get_config()
    visibility = broker_visibility_seconds()
    if visibility is None or visibility > config.drain_tick_seconds:
        return []
    return [
        checks.Warning(
            f"The broker delivers a task again after {visibility:g} s, and a drain task may run "
            f"for {config.drain_tick_seconds:g} s: drains would run twice at once, which loses "
            "nothing but does the work twice.",
            hint="Raise broker_transport_options['visibility_timeout'] above "
            "TAILRACE['DRAIN_TICK_SECONDS'].",
            id="tailrace.W005",
        )
    ]


def check_sqlite(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Messages:
    """W006: readers of a SQLite database are not locked out by each drain."""
    messages: Messages = []
    for alias in _storage_aliases():
        database = settings.DATABASES[alias]
        if not database["ENGINE"].endswith("sqlite3") or _has_wal(database):
            continue
        messages.append(
            checks.Warning(
                f"The SQLite database {alias!r} is not in WAL mode: readers wait for each drain, "
                "and drains for readers.",
                hint='Add to its OPTIONS: "init_command": "PRAGMA journal_mode=WAL; PRAGMA '
                'synchronous=NORMAL;", "transaction_mode": "IMMEDIATE".',
                id="tailrace.W006",
            )
        )
    return messages


def _storage_aliases() -> set[str]:
    aliases: set[str] = set()
    for name in conf.get_config().backends:
        try:
            alias = backends.make(name).get_db_alias()
        except ImproperlyConfigured:
            continue  # E003 has said so
        if alias is not None and alias in settings.DATABASES:
            aliases.add(alias)
    return aliases


def _has_wal(database: dict[str, Any]) -> bool:
    """Look into the file: connecting would create it, and cost more."""
    command = database.get("OPTIONS", {}).get("init_command", "")
    name = str(database["NAME"])
    if "journal_mode=wal" in command.lower().replace(" ", "") or "memory" in name:
        return True
    try:
        with Path(name).open("rb") as file:
            file.seek(_SQLITE_WAL_OFFSET)
            return file.read(2) == b"\x02\x02"
    except OSError:
        return False
