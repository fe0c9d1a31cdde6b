"""The default: events in the host's default database, with nothing to set up."""

from __future__ import annotations

from typing import ClassVar

from .django_db import DjangoDBBackend


class DatabaseBackend(DjangoDBBackend):
    """Stores events on the alias ``default``."""

    options: ClassVar = {}

    def get_db_alias(self) -> str:
        return "default"
