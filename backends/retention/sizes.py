"""How large rows are, by estimate; and from which time on as many are left as may be."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from tailrace.backends.rollups.ranges import MIN_US, us_of
from tailrace.pipeline.retention import Policy

from .targets import Target

_SAMPLE_ROWS = 500
_ROW_BYTES = {"sqlite": 30, "postgresql": 60, "mysql": 60}
"""What a row takes beside its values, by Django's name of the database."""
_INDEX_BYTES = {"sqlite": 30, "postgresql": 40, "mysql": 50}
"""... and an entry of an index."""
_OTHER_BYTES = 60
_NUMBER_BYTES = 8
_UUID_BYTES = {"sqlite": 33, "postgresql": 16, "mysql": 33}


def bytes_per_row(target: Target) -> float:
    """Return how much disk a row takes with its entries in indexes, from a sample of the latest.

    Within about a third of the truth; docs/retention.md has what was measured.
    """
    vendor = target.table.dialect.connection.vendor
    rows = list(target.rows().order_by(f"-{target.time_name}").values_list()[:_SAMPLE_ROWS])
    if not rows:
        return 0.0
    values = sum(_bytes_of(value, vendor) for row in rows for value in row) / len(rows)
    indexes = len(target.model._meta.indexes) + sum(
        1 for field in target.model._meta.concrete_fields if field.db_index or field.unique
    )
    row_bytes = _ROW_BYTES.get(vendor, _OTHER_BYTES)
    return float(values + row_bytes + indexes * _INDEX_BYTES.get(vendor, _OTHER_BYTES))


def oldest_kept_us(target: Target, policy: Policy) -> int:
    """Return before which time rows are too many, or take too much; ``MIN_US``: none are."""
    most = policy.max_rows
    if policy.max_bytes is not None:
        each = bytes_per_row(target)
        if not each:
            return MIN_US  # there is nothing yet
        fitting = max(1, int(policy.max_bytes / each))
        most = fitting if most is None else min(most, fitting)
    if most is None:
        return MIN_US
    times = target.rows().order_by(f"-{target.time_name}")
    # By the index: it costs as much as there may be rows, not as much as there are.
    found: list[datetime] = list(
        times.values_list(target.time_name, flat=True)[most - 1 : most + 1]
    )
    return us_of(found[0]) if len(found) > 1 else MIN_US


def _bytes_of(value: Any, vendor: str) -> int:
    if value is None:
        return 1
    if isinstance(value, str):
        return len(value.encode(errors="replace"))
    if isinstance(value, bytes | bytearray | memoryview):
        return len(value)
    if isinstance(value, dict | list):
        return len(json.dumps(value, default=str))
    if hasattr(value, "hex") and hasattr(value, "int"):
        return _UUID_BYTES.get(vendor, _OTHER_BYTES)
    if isinstance(value, datetime):
        return 26 if vendor == "sqlite" else _NUMBER_BYTES
    return _NUMBER_BYTES
