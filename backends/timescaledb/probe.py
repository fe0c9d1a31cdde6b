"""What a server's TimescaleDB can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core import checks
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from tailrace.backends.statements import statement
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.interval import Interval

MIN_VERSION = (2, 7)
"""Continuous aggregates as ours, and what reads them, came with 2.7 (May 2022)."""
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Capabilities:
    """What one database offers."""

    alias: str
    version: str | None
    """Of the extension in this database; ``None`` where it is not installed."""
    schema: str
    """Where its functions are."""
    license: str | None
    is_available: bool
    """Could the extension be created here?"""

    @property
    def has_hypertables(self) -> bool:
        """Is there a TimescaleDB that is recent enough?"""
        return self.version is not None and _numbers(self.version) >= MIN_VERSION

    @property
    def has_policies(self) -> bool:
        """Are there policies, compression and continuous aggregates (Timescale licence)?"""
        return self.has_hypertables and self.license == "timescale"

    @property
    def problem(self) -> str | None:
        """What is missing and what to do about it; ``None`` if nothing is."""
        if self.version is None:
            how = (
                "run CREATE EXTENSION timescaledb; in it, or put "
                "django.contrib.postgres.operations.CreateExtension('timescaledb') in a migration"
                if self.is_available
                else "the server does not have it: install timescaledb-2-postgresql-<n>, add it "
                "to shared_preload_libraries, restart, then run CREATE EXTENSION timescaledb;"
            )
            return f"database {self.alias!r} has no extension timescaledb: {how}"
        if not self.has_hypertables:
            least = ".".join(map(str, MIN_VERSION))
            return (
                f"database {self.alias!r} has TimescaleDB {self.version}, and {least} is the "
                "oldest that Tailrace works with: run ALTER EXTENSION timescaledb UPDATE;"
            )
        if not self.has_policies:
            return (
                f"TimescaleDB of database {self.alias!r} runs under the licence "
                f"{self.license!r}, without policies, compression and continuous aggregates: "
                "install the package timescaledb-2-postgresql-<n> (not timescaledb-2-oss-...) and "
                "set timescaledb.license = 'timescale'; or do without, and let "
                "manage.py tailrace_retention and Tailrace's rollups do that work"
            )
        return None

    def function(self, name: str) -> sql.Identifier:
        """Return one of the extension's functions, by its full name."""
        return sql.Identifier(self.schema, name)

    def require_hypertables(self, what: str) -> None:
        """Raise :class:`NotSupportedByBackend` where there are none."""
        if not self.has_hypertables:
            raise NotSupportedByBackend(f"{what}: {self.problem}.")

    def require_policies(self, what: str) -> None:
        """Raise :class:`NotSupportedByBackend` where the Timescale licence is missing."""
        if not self.has_policies:
            raise NotSupportedByBackend(f"{what}: {self.problem}.")


def probe(connection: BaseDatabaseWrapper) -> Capabilities:
    """Ask a PostgreSQL database what it has.

    Raises:
        NotSupportedByBackend: it is no PostgreSQL.
    """
    if connection.vendor != "postgresql":
        raise NotSupportedByBackend(
            f"database {connection.alias!r} is {connection.display_name}; TimescaleDB is an "
            "extension of PostgreSQL. Route these tables to a PostgreSQL alias (DATABASE_ROUTERS)."
        )
    with connection.cursor() as cursor:
        cursor.execute(statement("timescale_probe"))
        version, schema, license_, is_available = cursor.fetchone()
    return Capabilities(connection.alias, version, schema or "public", license_, is_available)


def check_messages(backend: str, capabilities: Capabilities, id: str) -> list[checks.CheckMessage]:
    """Return what a system check says of a backend's database.

    Args:
        backend: The backend's alias.
        capabilities: See :func:`probe`.
        id: The message's, such as ``tailrace.W006``.
    """
    if capabilities.problem is None:
        return []
    instead = (
        "Events and readings are in hypertables; policies and continuous aggregates raise."
        if capabilities.has_hypertables
        else "Meanwhile it works as PostgresBackend does, with PARTITION if you set it."
    )
    hint = capabilities.problem
    return [
        checks.Warning(
            f"TAILRACE['BACKENDS'][{backend!r}] is a TimescaleDBBackend, and lacks a part of "
            f"TimescaleDB. {instead}",
            hint=f"{hint[0].upper()}{hint[1:]}.",
            id=id,
        )
    ]


def as_parameters(interval: Interval) -> Mapping[str, Any]:
    """Return an interval as the parameters of ``make_interval``."""
    days, seconds = divmod(interval.seconds, _DAY_SECONDS)
    return {"months": interval.months, "days": days, "seconds": seconds}


def as_literal(interval: Interval) -> sql.Composed:
    """Return an interval where no parameter can be, such as in a view."""
    given = as_parameters(interval)
    text = f"{given['months']:d} months {given['days']:d} days {given['seconds']:d} seconds"
    return sql.SQL("{}::interval").format(sql.Literal(text))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
