"""Several statements that see one moment, and hold nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

_ONE_MOMENT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@contextmanager
def snapshot(connection: Any) -> Iterator[None]:
    """Let all statements of the block read the database as it is at the first of them.

    Args:
        connection: A connection of our own, in autocommit.
    """
    if connection.vendor == "sqlite":
        # Not atomic(): our transactions begin with IMMEDIATE, and would wait for writers.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
        return
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(_ONE_MOMENT)  # of the next one, and not within one
        with transaction.atomic(using=connection.alias):
            if connection.vendor == "postgresql":
                cursor.execute(_ONE_MOMENT)
            yield
