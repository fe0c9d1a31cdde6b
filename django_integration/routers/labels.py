"""Routing by app label, and databases that are never migrated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS

from tailrace.django_integration.routers.base import AliasRouter, effective_alias, require_aliases


class RulesRouter(AliasRouter):
    """An alias router over a mapping that is given or read from a setting at each use.

    Reading at each use is one attribute look-up, and makes ``override_settings`` work.

    Args:
        rules: the mapping; ``None`` reads the setting.
    """

    setting: str

    def __init__(self, rules: Mapping[str, str] | None = None) -> None:
        self._given = dict(rules) if rules is not None else None
        self._checked: Mapping[str, str] | None = None

    @property
    def rules(self) -> Mapping[str, str]:
        """The rules in force.

        Raises:
            ImproperlyConfigured: a rule names an alias that ``DATABASES`` does not have.
        """
        given = self._given
        rules: Mapping[str, str] = (
            given if given is not None else getattr(settings, self.setting, None) or {}
        )
        if rules is not self._checked:
            require_aliases(rules.values(), self.setting)
            self._checked = rules
        return rules


class LabelRouter(RulesRouter):
    """Sends whole apps to an alias: ``DATABASE_ROUTING_RULES = {"blog": "blog_db"}``.

    The alias of a rule holds the apps that the rules send there and nothing else; apps without a
    rule stay where they were. ``default`` is never closed to anyone.
    """

    rank = 40
    setting = "DATABASE_ROUTING_RULES"

    def claim(self, app_label: str, model_name: str | None) -> str | None:
        """Name the alias that the app's rule gives."""
        return self.rules.get(app_label)

    def is_dedicated(self, alias: str) -> bool:
        """Every alias that a rule names, except ``default``."""
        homes = {effective_alias(home) for home in self.rules.values()}
        return alias in homes - {DEFAULT_DB_ALIAS}


class LegacyRouter(RulesRouter):
    """Reads and writes a database that someone else owns, and never migrates it.

    ``DATABASE_LEGACY_RULES = {"erp": "legacy", "crm.customer": "legacy"}``: keys are app labels or
    ``app_label.model``. Declare the models with ``managed = False``.
    """

    rank = 20
    setting = "DATABASE_LEGACY_RULES"

    def claim(self, app_label: str, model_name: str | None) -> str | None:
        """Name the alias for the model, or else for its app."""
        rules = self.rules
        if model_name is not None and f"{app_label}.{model_name}" in rules:
            return rules[f"{app_label}.{model_name}"]
        return rules.get(app_label)

    def migrates_on(self, alias: str, app_label: str, model_name: str | None) -> bool:
        """Never: the tables are not ours."""
        return False

    def is_dedicated(self, alias: str) -> bool:
        """Every alias that a rule names, except ``default``."""
        return alias in set(self.rules.values()) - {DEFAULT_DB_ALIAS}

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        """Refuse every migration on a legacy alias, unless the operation names it itself."""
        if "target_db" not in hints and self.is_dedicated(db):
            return False
        return super().allow_migrate(db, app_label, model_name, **hints)
