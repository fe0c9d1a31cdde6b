"""What stories are made of: rollups, times that are hard to get right, and steps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from tailrace.backends.rollups.ranges import us_of

MOMENTS = (
    datetime(2024, 10, 27, 1, tzinfo=UTC),  # Berlin puts its clock back
    datetime(2024, 3, 31, 1, tzinfo=UTC),  # and forward
    datetime(2024, 11, 3, 6, tzinfo=UTC),  # New York
    datetime(2009, 11, 1, 2, 31, tzinfo=UTC),  # St. John's, over midnight
    datetime(2023, 12, 31, 23, 30, tzinfo=UTC),  # a year, a month, a week
)
END_US = us_of(datetime(2025, 6, 1, tzinfo=UTC))
"""After everything."""
ROLLUPS: tuple[dict[str, Any], ...] = (
    {"widths": ("15 minutes", "1 hour", "1 day", "1 month"), "time_zone": "Europe/Berlin"},
    {"widths": ("1 hour", "6 hours", "1 day", "1 week"), "time_zone": "America/New_York"},
    {"widths": ("1 day", "1 week"), "time_zone": "America/St_Johns"},
    {"widths": ("1 minute", "1 hour", "1 day")},
    {"widths": ("2 hours", "1 day", "1 year"), "time_zone": "Australia/Lord_Howe"},
)
POINTS_BETWEEN = (
    *("refresh_threshold_moved", "refresh_planned", "refresh_computed", "refresh_committed"),
)
"""Where a refresh is in no transaction, so that others can come between."""
POINTS = (
    *POINTS_BETWEEN,
    *("refresh_threshold", "refresh_log_copied", "refresh_deleted", "refresh_before_commit"),
    "late_noted",
)


class Step(NamedTuple):
    """Something that happens: a method of :class:`World`, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()
    fault: str = ""
    """Where it dies."""
    after: int = 0
    """Let so many passes of that point through."""
    between: tuple[str, Any] | None = None
    """At which point another step happens, on a connection of its own, and which."""
