"""One database a month: ``timeseries_%Y_%m``."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model
from django.utils import timezone

from tailrace.django_integration.routers.base import AliasRouter, require_aliases

SETTING = "DATABASE_TIME_RULES"
_registering = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRule:
    """Where the months of one app live.

    Args:
        template: alias whose settings each month copies, apart from the database's name. It holds
            no rows of the app itself.
        alias_pattern: alias of a month, a ``strftime`` pattern with ``%Y`` and ``%m``.
        time_field: field of the models that says which month a row belongs to.
    """

    template: str = DEFAULT_DB_ALIAS
    alias_pattern: str = "timeseries_%Y_%m"
    time_field: str = "timestamp"

    def __post_init__(self) -> None:
        if "%Y" not in self.alias_pattern or "%m" not in self.alias_pattern:
            raise ImproperlyConfigured(
                f"{SETTING}: alias_pattern {self.alias_pattern!r} needs %Y and %m, for example "
                "'timeseries_%Y_%m'; without them two months would share a database."
            )

    def alias_at(self, moment: date) -> str:
        """Name the alias of the month that `moment` is in (UTC for an aware datetime)."""
        if isinstance(moment, datetime) and timezone.is_aware(moment):
            moment = moment.astimezone(UTC)
        return moment.strftime(self.alias_pattern)

    def month_of(self, alias: str) -> date | None:
        """Return the first day of the month that `alias` names, or ``None`` if it names none."""
        match = _pattern_of(self.alias_pattern).fullmatch(alias)
        return date(int(match["year"]), int(match["month"]), 1) if match else None


@lru_cache(maxsize=64)
def _pattern_of(alias_pattern: str) -> re.Pattern[str]:
    escaped = re.escape(alias_pattern).replace("%Y", r"(?P<year>\d{4})")
    return re.compile(escaped.replace("%m", r"(?P<month>0[1-9]|1[0-2])"))


class TimeRouter(AliasRouter):
    """Sends each row to the database of its month.

    ``DATABASE_TIME_RULES = {"timeseries": {"template": "telemetry", "alias_pattern":
    "timeseries_%Y_%m", "time_field": "timestamp"}}``. A write goes by the instance's time; a read
    without an instance goes to the current month. For more than one month see
    ``databases.months``: ``query_months``, ``bulk_create_by_month`` and ``prepare_months``, which
    creates what is missing ahead.

    Args:
        rules: app label to rule; ``None`` reads the setting.
        now: the clock, aware.
    """

    rank = 30

    def __init__(
        self,
        rules: Mapping[str, TimeRule | Mapping[str, str]] | None = None,
        *,
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self._given = rules
        self._now = now
        self._parsed: tuple[object, dict[str, TimeRule]] = (None, {})

    @property
    def rules(self) -> dict[str, TimeRule]:
        """The rules in force.

        Raises:
            ImproperlyConfigured: a rule has an unknown key, a pattern without year and month, or a
                template that ``DATABASES`` does not have.
        """
        source = self._given
        if source is None:
            source = getattr(settings, SETTING, None) or {}
        if self._parsed[0] is not source:
            self._parsed = (source, {label: _rule(label, raw) for label, raw in source.items()})
            require_aliases([rule.template for rule in self._parsed[1].values()], SETTING)
        return self._parsed[1]

    def claim(self, app_label: str, model_name: str | None) -> str | None:
        """Name the alias of the current month."""
        rule = self.rules.get(app_label)
        return ensure_alias(rule, rule.alias_at(self._now())) if rule is not None else None

    def holds(self, alias: str, app_label: str, model_name: str | None) -> bool:
        """Any month's alias."""
        return self.rules[app_label].month_of(alias) is not None

    def is_dedicated(self, alias: str) -> bool:
        """Every month's alias."""
        return any(rule.month_of(alias) is not None for rule in self.rules.values())

    def alias_for(self, model: type[Model], hints: dict[str, Any]) -> str | None:
        """Go by the time of the instance, if there is one of a model with the time field."""
        rule = self.rules[model._meta.app_label]
        moment = getattr(hints.get("instance"), rule.time_field, None)
        if not isinstance(moment, date):
            moment = self._now()
        return ensure_alias(rule, rule.alias_at(moment))


def ensure_alias(rule: TimeRule, alias: str) -> str:
    """Make sure that Django knows `alias`; its settings follow from the template's.

    Every process can do that for itself, so a month that another process created is found here
    without a restart. Nothing is created on the server.
    """
    if alias in connections.settings:
        return alias
    with _registering:
        template = connections.settings[rule.template]
        # A month is a database of its own: it is neither the template's mirror nor its test name.
        month = {**template, "NAME": database_name(rule, alias), "TEST": {**template["TEST"]}}
        month["TEST"].update(MIRROR=None, NAME=None)
        connections.settings.setdefault(alias, type(template)(month))
    return alias


def database_name(rule: TimeRule, alias: str) -> str:
    """Name a month's database: the alias, beside the template's file where that is a file."""
    template = connections.settings[rule.template]
    name = str(template["NAME"])
    if not template["ENGINE"].endswith(("sqlite3", "spatialite")):
        return alias
    if name in {"", ":memory:"} or "mode=memory" in name:
        return f"file:{alias}?mode=memory&cache=shared"
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}-{alias}.{suffix}" if dot and "/" not in suffix else f"{name}-{alias}"


def _rule(label: str, raw: TimeRule | Mapping[str, str]) -> TimeRule:
    if isinstance(raw, TimeRule):
        return raw
    try:
        return TimeRule(**raw)
    except TypeError as error:
        known = ", ".join(TimeRule.__dataclass_fields__)
        raise ImproperlyConfigured(
            f"{SETTING}[{label!r}] has a key that is not known ({error}); use: {known}."
        ) from error
