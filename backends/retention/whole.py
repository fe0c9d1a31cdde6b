"""Dropping partitions and chunks of events as a whole, where all in them is due.

That costs the same for a million rows as for none, and leaves nothing for VACUUM. Whether all is
due is asked twice: to find out which, and again for each one when nobody can write to it any more,
since a late event of a measurement that is kept for longer may have come in between. One with
nothing in it goes by the longest of the ages; where none is old enough, it stays.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tailrace.backends.rollups.ranges import FIRST_US, MIN_US, datetime_of, us_of

from .plan import Due
from .targets import measurements


def drop(backend: Any, dues: Mapping[str, Due], deadline: float) -> list[Any]:
    """Drop the partitions or chunks of which all is due.

    Args:
        backend: An ORM backend; only those on PostgreSQL have any.
        dues: What is due of which measurement; all others stay.
        deadline: On ``time.monotonic()``.

    Returns:
        What was dropped: ``name``, ``rows`` (estimated) and ``size_bytes`` of each.

    Raises:
        TransientBackendError: somebody held on to one; what was dropped until then is gone.
    """
    spans = backend.event_spans()
    if not spans:
        return []
    using = backend.get_db_alias()
    limit_us = max((_all_before_us(due) for due in dues.values()), default=MIN_US)

    def may_go(low: datetime | None, high: datetime | None) -> bool:
        if low is None or high is None or us_of(high) > limit_us:
            return False
        return all(
            name in dues and _all_before_us(dues[name]) >= us_of(high)
            for name in measurements(using, us_of(low), us_of(high))
        )

    wanted = {span for span in spans if may_go(*span)}
    before = max((high for _, high in wanted), default=datetime_of(FIRST_US))
    # Even where nothing is due: an earlier run may have been killed before it dropped all.
    left = max(deadline - time.monotonic(), 0.1)
    dropped: list[Any] = backend.drop_partitions(
        before,
        deadline_seconds=left,
        may_go=lambda low, high: (low, high) in wanted and may_go(low, high),
    )
    return dropped


def _all_before_us(due: Due) -> int:
    """Return before which time all rows of a target go."""
    if due.policy.hold:
        return MIN_US
    return min([due.before_us, *(before for _, before in due.rules)])
