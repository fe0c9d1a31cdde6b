"""A manager that is bound to an alias."""

from __future__ import annotations

from typing import Any

from django.db import models

from tailrace.django_integration.routers.base import effective_alias, require_aliases


class MultiDatabaseManager(models.Manager):
    """Reads and writes on one alias, whatever the routers say.

    ``reports = MultiDatabaseManager("analytics")`` beside ``objects = models.Manager()``. An alias
    that is mirrored in tests (``TEST["MIRROR"]``) is followed there.

    Args:
        database_alias: the alias.
    """

    use_in_migrations = False

    def __init__(self, database_alias: str) -> None:
        super().__init__()
        self.database_alias = database_alias

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return rows of the alias.

        Raises:
            ImproperlyConfigured: ``DATABASES`` has no such alias.
        """
        require_aliases([self.database_alias], f"MultiDatabaseManager of {self.model.__name__}")
        # db_manager(other).all() has asked for another alias; that is respected.
        return super().get_queryset().using(self._db or effective_alias(self.database_alias))

    def create(self, **fields: Any) -> Any:
        """Create a row on the alias."""
        return self.get_queryset().create(**fields)
