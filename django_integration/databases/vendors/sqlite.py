"""SQLite: a file, so the questions are about the file and this process."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from django.db import transaction

from tailrace.django_integration.databases.vendors.base import Answer, Vendor
from tailrace.django_integration.databases.vendors.polling import wait_for


class SQLite(Vendor):
    """Answers from pragmas."""

    label: ClassVar[str] = "SQLite"

    def connection_count(self) -> int | None:
        """Return one: this connection. No server counts those of other threads and processes."""
        return 1

    def size_bytes(self) -> int | None:
        """Return pages times page size."""
        return int(self.value("PRAGMA page_count")) * int(self.value("PRAGMA page_size"))

    def bloat(self, limit: int) -> Answer:
        """Tell the free pages of the whole file; SQLite does not know them by table."""
        pages, free = int(self.value("PRAGMA page_count")), int(self.value("PRAGMA freelist_count"))
        row = {
            "table": "(the whole file)",
            "dead_bytes": free * int(self.value("PRAGMA page_size")),
            "dead_share": round(free / max(pages, 1), 4),
        }
        return Answer([row][:limit])

    def vacuum(self) -> str:
        """Run ``VACUUM`` and ``PRAGMA optimize``."""
        if self.connection.in_atomic_block:
            raise transaction.TransactionManagementError(
                "VACUUM cannot run inside atomic(); call it outside."
            )
        with self.connection.cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA optimize")
        return "VACUUM, PRAGMA optimize"

    @contextmanager
    def lock(self, name: str, wait_seconds: float, on_wait: Callable[[], None]) -> Iterator[None]:
        """Lock a file beside the database; the system drops the lock if we are killed."""
        if self.connection.is_in_memory_db():
            yield  # Nobody else can see this database.
            return
        path = Path(f"{self.connection.settings_dict['NAME']}.{name}.lock")
        with path.open("a") as handle:

            def take() -> bool:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

            wait_for(take, name, wait_seconds, on_wait)
            # The file stays: removing it would let a third process lock a new one of its name.
            yield
