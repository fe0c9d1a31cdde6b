"""The base of Tailrace's own management commands."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from tailrace.pipeline import suppress_recording


class TailraceCommand(BaseCommand):
    """A command that is not recorded, from its first system check on.

    Django runs the checks before ``handle()``, and some of them query: Django 6.1 probes each
    SQLite database for JSON. Recorded, these queries would follow the last drain into Redis,
    and the ledger would never come to rest.
    """

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the checks and the command with recording off."""
        with suppress_recording():
            return super().execute(*args, **options)
