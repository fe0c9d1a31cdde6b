"""A backend on an engine at a time of its own, and short ways to fill it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.postgres import PostgresBackend
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.retention import Policy, RetentionConfig, policies_of

if TYPE_CHECKING:
    from retention.conftest import Database

DAY = timedelta(days=1)
MOMENTS = [
    datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC),
    datetime(2024, 3, 1, 0, 0, 0, tzinfo=UTC),
    datetime(2024, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
]
"""What time it may be; all of it is over, since a rollup never goes beyond the true present."""
at_any_time = pytest.mark.parametrize("now", MOMENTS, ids=str)


class Site:
    """A backend on an engine, and short ways to fill it."""

    def __init__(self, database: Database, now: datetime) -> None:
        self.database = database
        self.now = now
        kind = PostgresBackend if database.engine == "postgres" else DjangoDBBackend
        self.backend = kind("default", {"ALIAS": database.alias})
        self.backend.create_checkpoint(Checkpoint(0))
        self._positions = itertools.count(1)

    def store(
        self,
        times: Iterable[datetime],
        measurement: str = "request",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        events = [
            Event(
                measurement,
                ns_from_datetime(at),
                dict(tags or {}),
                {"n": 1},
                id=uuid.uuid4().bytes,
            )
            for at in times
        ]
        with self.backend.transaction(0) as tx:
            tx.write(events)
            position = f"{next(self._positions)}-0"
            tx.advance(Checkpoint(0, position, "e", tx.checkpoint.created_ns), [])

    def days(self, *ages: float) -> list[datetime]:
        return [self.now - timedelta(days=age) - timedelta(minutes=1) for age in ages]

    def ages(self, measurement: str = "request", **tags: str) -> list[int]:
        """Return the ages of what is there, in whole days, ascending."""
        rows = self.database.rows("Event").filter(measurement=measurement)
        found = rows.values_list("time", "tags")
        return sorted(
            (self.now - time) // DAY for time, its in found if tags.items() <= dict(its).items()
        )

    def sweep(self, retention: dict[str, Any], seconds: float = 30.0) -> Any:
        return self.backend.sweep(policies(retention), seconds=seconds)


def policies(retention: dict[str, Any]) -> dict[str, Policy]:
    typed = msgspec.convert(retention, dict[str, RetentionConfig | str | None])
    made, problems = policies_of(typed, {})
    assert not problems
    return made
