"""What a backfill would do, and how far one has come: what pages and commands show."""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.pipeline.backfill.contracts import Estimate
from tailrace.pipeline.backfill.records import RUNNING, Record, Tally


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a backfill would do."""

    kind: str
    values: dict[str, Any]
    """Parsed parameters."""
    estimate: Estimate


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a backfill has come: everything that a page shows."""

    record: Record
    title: str
    values: dict[str, Any]
    """Parameters, as they were given."""
    estimate: Estimate
    tally: Tally
    result: dict[str, Any]
    """Of a backfill that has ended: sums of all steps, digests, notes."""
    log: tuple[str, ...]
    """The last lines, oldest first."""
    failures: tuple[tuple[int, str, str], ...] = ()
    """Number, label and reason of the first steps that failed."""
    can: tuple[str, ...] = ()
    """What may be done to it now: ``pause``, ``resume``, ``cancel``, ``retry``."""

    @property
    def phase(self) -> str:
        """The state, with ``planning`` for the first part of running."""
        is_planning = self.record.state == RUNNING and not self.record.is_planned
        return "planning" if is_planning else self.record.state
