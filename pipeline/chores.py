"""Work that beat starts now and then, beside the drain.

A chore is done the same by one beat or by three: each is idempotent, or finds nothing to do.
What there is to do is handed in, since most of it is about databases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Chore(NamedTuple):
    """One piece of regular work."""

    name: str
    """Names its beat entry: ``tailrace.<name>``."""
    every_seconds: float
    run: Callable[[], object]
    """Does it; what it returns is logged."""
