"""``manage.py tailrace_partition``: partition an events' table that has rows already."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from tailrace.backends import get_backend
from tailrace.django_integration.management.base import TailraceCommand
from tailrace.pipeline.errors import TailraceError


class Command(TailraceCommand):
    """Turns the plain table of a PostgresBackend into a partitioned one."""

    help = (
        "Partition the table of events by time, where PARTITION is set for a PostgresBackend. "
        "The rows there are stay where they are and become the oldest partition. Writers and "
        "readers wait while PostgreSQL reads the table once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--backend", default="default", help="its alias in TAILRACE['BACKENDS']"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        backend = get_backend(options["backend"])
        partition_existing = getattr(backend, "partition_existing", None)
        if partition_existing is None:
            raise CommandError(
                f"{type(backend).__name__} has no partitions; "
                "tailrace.backends.postgres.PostgresBackend has."
            )
        try:
            is_done = partition_existing()
        except TailraceError as error:
            raise CommandError(str(error)) from error
        self.stdout.write("The table is partitioned." if is_done else "Nothing to do.")
