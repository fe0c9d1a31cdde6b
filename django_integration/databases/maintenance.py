"""Vacuum, clean up, prepare: what a database needs now and then, for commands and for beat."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import Error, connections, router
from django.db.models import Model
from django.utils import timezone

from tailrace.django_integration.databases.health import HEALTHY, check_all_databases
from tailrace.django_integration.databases.months import prepare_months
from tailrace.django_integration.databases.secrets import scrub
from tailrace.django_integration.databases.selection import select_aliases, writable_aliases
from tailrace.django_integration.databases.vendors import vendor_of
from tailrace.pipeline import suppress_recording

logger = logging.getLogger("tailrace.databases")

SETTING = "DATABASE_CLEANUP_RULES"
DEFAULT_KEEP_DAYS = 90
#: Rows deleted at a time: short transactions, and no lock that a web request waits for.
SLICE_ROWS = 5000

Outcome = dict[str, Any]


def vacuum_databases(databases: Iterable[str] | None = None) -> dict[str, Outcome]:
    """Vacuum and analyse, one alias after the other.

    Args:
        databases: aliases; ``None`` is all that we write to (no replica, no legacy database).

    Returns:
        ``{alias: {"ok", "detail"}}``; one that fails does not keep the next from its turn.
    """
    chosen = writable_aliases(databases) if databases is None else select_aliases(databases)
    return {alias: _outcome(partial(_vacuum, alias)) for alias in chosen}


def cleanup_old_analytics_data(
    days: int | None = None,
    rules: Mapping[str, Mapping[str, Any]] | None = None,
    databases: Iterable[str] | None = None,
) -> dict[str, Outcome]:
    """Delete the rows that their rule says are too old, in short slices.

    Args:
        days: overrides the age of every rule.
        rules: ``{"analytics.PageView": {"field": "created_at", "days": 90}}``; ``None`` reads
            ``DATABASE_CLEANUP_RULES``.
        databases: only models that live on these aliases.

    Returns:
        ``{model: {"ok", "detail", "deleted"}}``.

    Raises:
        ImproperlyConfigured: a rule names no model, or a field that it does not have.
        ValueError: `days` is not positive.
    """
    if days is not None and days < 1:
        raise ValueError(f"days must be 1 or more, not {days}: it is the age of what is deleted")
    rules = rules if rules is not None else getattr(settings, SETTING, None) or {}
    wanted = None if databases is None else set(select_aliases(databases))
    outcomes: dict[str, Outcome] = {}
    for label, rule in rules.items():
        model, field = _rule_target(label, rule)
        alias = router.db_for_write(model)
        if wanted is not None and alias not in wanted:
            continue
        keep_days = days or int(rule.get("days", DEFAULT_KEEP_DAYS))
        before = timezone.now() - timedelta(days=keep_days)
        outcomes[label] = _deletion(partial(_delete_before, model, field, before, alias))
    return outcomes


def cleanup_expired_cache_entries(databases: Iterable[str] | None = None) -> dict[str, Outcome]:
    """Delete expired rows of every database cache; Django itself does so only when it is full.

    Args:
        databases: only caches whose table is on these aliases.

    Returns:
        ``{cache: {"ok", "detail", "deleted"}}``.
    """
    wanted = None if databases is None else set(select_aliases(databases))
    outcomes: dict[str, Outcome] = {}
    for name in settings.CACHES:
        cache = caches[name]
        if not isinstance(cache, BaseDatabaseCache):
            continue
        alias = router.db_for_write(cache.cache_model_class)
        if wanted is None or alias in wanted:
            outcomes[name] = _deletion(partial(_delete_expired, cache._table, alias))
    return outcomes


def run_maintenance(
    *,
    cleanup: bool = False,
    vacuum: bool = False,
    health_check: bool = False,
    months: bool = False,
    databases: Iterable[str] | None = None,
    days: int | None = None,
) -> dict[str, dict[str, Outcome]]:
    """Run the chosen parts; the body of ``tailrace_maintain`` and of the beat tasks.

    Args:
        cleanup: old rows and expired cache entries.
        vacuum: see ``vacuum_databases``.
        health_check: see ``check_all_databases``.
        months: create the months ahead, see ``prepare_months``.
        databases: aliases; ``None`` is all that the part is about.
        days: see ``cleanup_old_analytics_data``.

    Returns:
        ``{part: {name: {"ok", "detail", ...}}}``; plain values, so that a task can return it.
    """
    chosen = None if databases is None else list(databases)
    report: dict[str, dict[str, Outcome]] = {}
    if months:
        report["months"] = {"ahead": _outcome(lambda: ", ".join(prepare_months()) or "none due")}
    if cleanup:
        report["cleanup"] = cleanup_old_analytics_data(days, databases=chosen)
        report["cache"] = cleanup_expired_cache_entries(chosen)
    if vacuum:
        report["vacuum"] = vacuum_databases(chosen)
    if health_check:
        _give_back_to_pools()
        report["health"] = {
            alias: {
                "ok": answer["status"] == HEALTHY,
                "detail": answer["error"] or HEALTHY,
                **answer,
            }
            for alias, answer in check_all_databases(chosen).items()
        }
    for part, outcomes in report.items():
        for name, outcome in outcomes.items():
            if not outcome["ok"]:
                logger.error("Maintenance, %s of %s: %s", part, name, outcome["detail"])
    return report


def _give_back_to_pools() -> None:
    """Return this thread's connections: the health check's threads need one of each pool.

    In a pool of one, what we hold would make a database look down that is not.
    """
    for connection in connections.all(initialized_only=True):
        is_pooled = bool(connection.settings_dict["OPTIONS"].get("pool"))
        if is_pooled and not connection.in_atomic_block and connection.get_autocommit():
            connection.close()


def _rule_target(label: str, rule: Mapping[str, Any]) -> tuple[type[Model], str]:
    try:
        model = apps.get_model(label)
        field = model._meta.get_field(rule["field"]).name
    except (LookupError, ValueError, FieldDoesNotExist) as error:
        raise ImproperlyConfigured(
            f"{SETTING}[{label!r}]: {error}. Write 'app_label.Model' and the name of its time "
            "field: {'analytics.PageView': {'field': 'created_at', 'days': 90}}."
        ) from error
    return model, field


def _vacuum(alias: str) -> str:
    return vendor_of(connections[alias]).vacuum()


def _delete_before(model: type[Model], field: str, before: datetime, alias: str) -> int:
    deleted = 0
    old = model._base_manager.using(alias).filter(**{f"{field}__lt": before})
    while True:
        keys = list(old.order_by(field).values_list("pk", flat=True)[:SLICE_ROWS])
        if not keys:
            return deleted
        _total, by_model = model._base_manager.using(alias).filter(pk__in=keys).delete()
        deleted += by_model.get(model._meta.label, 0)


def _delete_expired(table: str, alias: str) -> int:
    connection = connections[alias]
    quote = connection.ops.quote_name
    # The cache backend writes whole seconds in this form; see BaseDatabaseCache._base_set().
    now = connection.ops.adapt_datetimefield_value(timezone.now().replace(microsecond=0))
    statement = " ".join(["DELETE FROM", quote(table), "WHERE", quote("expires"), "< %s"])
    with connection.cursor() as cursor:
        cursor.execute(statement, [now])
        return int(cursor.rowcount)


def _outcome(work: Callable[[], str]) -> Outcome:
    try:
        with suppress_recording():
            return {"ok": True, "detail": work()}
    except (Error, OSError) as error:
        return {"ok": False, "detail": scrub(f"{type(error).__name__}: {error}").strip()}


def _deletion(work: Callable[[], int]) -> Outcome:
    try:
        with suppress_recording():
            deleted = work()
    except Error as error:
        detail = scrub(f"{type(error).__name__}: {error}").strip()
        return {"ok": False, "detail": detail, "deleted": 0}
    return {"ok": True, "detail": f"{deleted} rows deleted", "deleted": deleted}


__all__ = [
    "cleanup_expired_cache_entries",
    "cleanup_old_analytics_data",
    "run_maintenance",
    "vacuum_databases",
]
