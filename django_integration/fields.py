"""Model fields of our own."""

from __future__ import annotations

from typing import Any

from django.db import models


class PlainJSONField(models.JSONField):
    """A ``JSONField`` without SQLite's CHECK constraint; only we write to it.

    SQLite reads the whole schema whenever a connection opens, which Django's default is once a
    request. Each such CHECK costs it 5 us then, as much as a table of eight plain columns.
    """

    def db_check(self, connection: Any) -> str | None:
        """Return no constraint on SQLite; on others, what ``JSONField`` does."""
        return None if connection.vendor == "sqlite" else super().db_check(connection)
