"""Work that beat starts now and then, beside the drain.

A chore is done the same by one beat or by three: each is idempotent, or finds nothing to do.
What there is to do is handed in, since most of it is about databases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """What a chore returns that may have to go on."""

    detail: object
    """For the log."""
    is_finished: bool = True
    """If not, it is started again at once, rather than when it is due."""


class Chore(NamedTuple):
    """One piece of regular work."""

    name: str
    """Names its beat entry: ``tailrace.<name>``."""
    every_seconds: float
    run: Callable[[], object]
    """Does it; what it returns is logged. It may be an :class:`Outcome`."""
