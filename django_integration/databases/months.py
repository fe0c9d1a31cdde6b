"""Working with ``TimeRouter``'s months: create ahead, write in bulk, query over several."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import Error, OperationalError, connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model, QuerySet
from django.utils import timezone

from tailrace.django_integration.routers.months import TimeRouter, TimeRule, ensure_alias

DEFAULT_MONTHS_AHEAD = 2


def prepare_months(ahead: int = DEFAULT_MONTHS_AHEAD, now: datetime | None = None) -> list[str]:
    """Create the databases and tables of this month and the next ones, where they are missing.

    Args:
        ahead: months after the current one.
        now: aware; ``None`` is the present.

    Returns:
        The aliases that were created or migrated.
    """
    moment = now or timezone.now()
    done: list[str] = []
    for label, rule in _rules().items():
        for first_day in islice(_months_from(moment), ahead + 1):
            alias = ensure_alias(rule, rule.alias_at(first_day))
            was_missing = _create_database(rule, alias)
            if was_missing or _is_behind(alias, label):
                call_command("migrate", label, database=alias, interactive=False, verbosity=0)
                done.append(alias)
    return done


def month_aliases(model: type[Model], start: datetime, end: datetime) -> list[str]:
    """List the aliases of the months in ``[start, end)`` whose database exists, oldest first.

    Raises:
        ValueError: a naive datetime, or an empty window.
        ImproperlyConfigured: no ``TimeRouter`` has a rule for the model's app.
    """
    if timezone.is_naive(start) or timezone.is_naive(end):
        raise ValueError("start and end must be aware; give them a tzinfo")
    if start >= end:
        raise ValueError(f"the window [{start}, {end}) is empty; start must be before end")
    rule = _rule_of(model)
    last = (end - timedelta(microseconds=1)).astimezone(UTC).date()
    months = takewhile(lambda first_day: first_day <= last, _months_from(start))
    aliases = [ensure_alias(rule, rule.alias_at(first_day)) for first_day in months]
    return [alias for alias in aliases if _exists(alias, model)]


def query_months(
    model: type[Model],
    start: datetime,
    end: datetime,
    *,
    order: str | None = None,
    limit: int | None = None,
    narrow: Callable[[QuerySet[Any]], QuerySet[Any]] | None = None,
) -> Iterator[Any]:
    """Read the rows of ``[start, end)`` from all their months, in one order.

    Args:
        model: a model of an app with a time rule.
        start: aware, inclusive.
        end: aware, exclusive.
        order: field to order by, ``-field`` for descending; ``None`` is the time field.
        limit: most rows over all months.
        narrow: further conditions, ``lambda rows: rows.filter(value__gt=3)``.

    Returns:
        Instances, read month by month as they are asked for.
    """
    field = _rule_of(model).time_field
    order = order or field
    name, is_descending = order.removeprefix("-"), order.startswith("-")
    parts = []
    for alias in month_aliases(model, start, end):
        rows = model._default_manager.using(alias).filter(
            **{f"{field}__gte": start, f"{field}__lt": end}
        )
        rows = (narrow(rows) if narrow is not None else rows).order_by(order)
        parts.append((rows if limit is None else rows[:limit]).iterator())
    merged = heapq.merge(*parts, key=lambda row: getattr(row, name), reverse=is_descending)
    return islice(merged, limit)


def bulk_create_by_month(rows: Iterable[Model], *, batch_size: int = 1000) -> dict[str, int]:
    """Write rows of several months, each to its own; ``bulk_create()`` alone takes one alias.

    Args:
        rows: instances of one model, not saved yet.
        batch_size: rows a statement.

    Returns:
        ``{alias: rows written}``. Each month is a transaction of its own.
    """
    by_alias: dict[str, list[Model]] = defaultdict(list)
    for row in rows:
        by_alias[router.db_for_write(type(row), instance=row)].append(row)
    for alias, part in sorted(by_alias.items()):
        type(part[0])._default_manager.using(alias).bulk_create(part, batch_size=batch_size)
    return {alias: len(part) for alias, part in by_alias.items()}


def _rules() -> dict[str, TimeRule]:
    found: dict[str, TimeRule] = {}
    for peer in router.routers:
        if isinstance(peer, TimeRouter):
            found.update(peer.rules)
    return found


def _rule_of(model: type[Model]) -> TimeRule:
    rule = _rules().get(model._meta.app_label)
    if rule is None:
        raise ImproperlyConfigured(
            f"{model._meta.label} has no months: install TimeRouter in DATABASE_ROUTERS and give "
            f"its app a rule, DATABASE_TIME_RULES = {{{model._meta.app_label!r}: {{...}}}}."
        )
    return rule


def _months_from(moment: datetime) -> Iterator[date]:
    first_day = moment.astimezone(UTC).date().replace(day=1)
    while True:
        yield first_day
        first_day = (first_day + timedelta(days=31)).replace(day=1)


def _is_behind(alias: str, label: str) -> bool:
    executor = MigrationExecutor(connections[alias])
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == label]
    return bool(executor.migration_plan(targets))


def _exists(alias: str, model: type[Model]) -> bool:
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            return model._meta.db_table in connection.introspection.table_names(cursor)
    except OperationalError:
        # No such database: a month before the first row, or not prepared yet.
        connection.close()
        return False


def _create_database(rule: TimeRule, alias: str) -> bool:
    """Create a month's database on its server; SQLite makes the file when it is opened."""
    connection = connections[alias]
    if connection.vendor == "sqlite":
        return False
    name = connection.settings_dict["NAME"]
    try:
        connection.ensure_connection()
        return False
    except OperationalError:
        connection.close()
    quoted = connection.ops.quote_name(name)
    try:
        with connections[rule.template].cursor() as cursor:
            cursor.execute("CREATE DATABASE " + quoted)
    except Error:
        # Another process may have been faster; if not, this raises what is wrong.
        connection.ensure_connection()
        return False
    return True
