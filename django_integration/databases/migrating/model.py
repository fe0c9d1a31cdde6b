"""The words of a plan: what is pending where, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What can be wrong with a migration on an alias."""

    HALF_APPLIED = "half applied"
    CUT_OFF = "cut off"
    RECORDED_BUT_MISSING = "recorded but missing"
    PRESENT_BUT_UNRECORDED = "present but unrecorded"


class Role(StrEnum):
    """What an alias is to migrations."""

    MIGRATED = "migrated"
    REPLICA = "replica: gets its schema by replication"
    LEGACY = "legacy: never migrated"
    SAME_DATABASE = "the same database as another alias"
    DOWN = "DOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Args:
        kind: what.
        app: app label.
        migration: name of the migration; empty where several are concerned.
        what: the finding in a sentence.
        repair: what ``--repair`` will do about it, in a sentence.
        done: operations that have run (of a migration that is half applied), by index.
        table: table that is missing, or has a column missing.
        column: name of the field whose column is missing.
    """

    kind: Kind
    app: str
    migration: str
    what: str
    repair: str
    done: frozenset[int] = frozenset()
    table: str = ""
    column: str = ""

    @property
    def is_mended_by_any_run(self) -> bool:
        """Whether our own journal says what to do, so that no one need be asked."""
        return self.kind is Kind.CUT_OFF


@dataclass(slots=True, kw_only=True)
class AliasPlan:
    """What is to be done on one alias.

    Args:
        alias: the alias.
        role: what it is to migrations.
        detail: the error of one that is down.
        pending: app label to the names of its migrations that are to run, in order; every app
            that lives here is a key.
        guests: pending migrations of apps that live elsewhere and are only recorded here.
        findings: what is wrong.
    """

    alias: str
    role: Role = Role.MIGRATED
    detail: str = ""
    pending: dict[str, list[str]] = field(default_factory=dict)
    guests: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def pending_count(self) -> int:
        """Number of migrations that are to run."""
        return sum(map(len, self.pending.values()))

    @property
    def is_clean(self) -> bool:
        """Whether nothing is pending, wrong or unreachable."""
        return self.role is not Role.DOWN and not self.pending_count and not self.findings
