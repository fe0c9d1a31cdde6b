"""What Tailrace stores, in Django's admin: to read; dead letters to replay; backfills to run.

Every page takes the same time on a thousand rows and on a hundred million: pages are found
by key, not by number, and nothing is counted.
"""

from __future__ import annotations

from .backfills import BackfillAdmin
from .books import LedgerEntryAdmin, ProducerMarkAdmin, ShardCheckpointAdmin
from .dead_letters import DeadLetterAdmin
from .events import EventAdmin
from .exception_groups import ExceptionGroupAdmin

__all__ = [
    "BackfillAdmin",
    "DeadLetterAdmin",
    "EventAdmin",
    "ExceptionGroupAdmin",
    "LedgerEntryAdmin",
    "ProducerMarkAdmin",
    "ShardCheckpointAdmin",
]
