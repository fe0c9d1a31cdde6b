"""What Tailrace stores, in Django's admin: to read, and dead letters to replay.

Every page takes the same time on a thousand rows and on a hundred million: pages are found
by key, not by number, and nothing is counted.
"""

from __future__ import annotations

from .books import LedgerEntryAdmin, ProducerMarkAdmin, ShardCheckpointAdmin
from .dead_letters import DeadLetterAdmin
from .events import EventAdmin
from .exception_groups import ExceptionGroupAdmin

__all__ = [
    "DeadLetterAdmin",
    "EventAdmin",
    "ExceptionGroupAdmin",
    "LedgerEntryAdmin",
    "ProducerMarkAdmin",
    "ShardCheckpointAdmin",
]
