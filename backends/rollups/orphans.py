"""Removing what belongs to levels that are not declared any more."""

from __future__ import annotations

import time

from tailrace.pipeline.faults import fault

from . import log
from .changes import objects


def remove_orphans(using: str, deadline: float, rows_a_slice: int = 5_000) -> int:
    """Remove buckets, and log, of levels that are gone; return how many rows."""
    known = set(objects(using, "RollupLevel").values_list("id", flat=True))
    rows = objects(using, "RollupBucket")
    removed, after = 0, -1
    while True:
        found = rows.filter(level_id__gt=after).order_by("level_id")
        level_id = found.values_list("level_id", flat=True).first()
        if level_id is None:
            break
        after = level_id
        is_known = level_id in known or objects(using, "RollupLevel").filter(id=level_id).exists()
        while not is_known and time.monotonic() < deadline:
            ids = list(rows.filter(level_id=level_id).values_list("id", flat=True)[:rows_a_slice])
            if not ids:
                break
            rows.filter(id__in=ids)._raw_delete(using)
            removed += len(ids)
            fault("orphans_removed")
    return removed + _remove_log_of(using, known)


def _remove_log_of(using: str, known: set[int]) -> int:
    """Remove the log of levels that are gone: a refresh may have added to it meanwhile."""
    removed = 0
    owners = log.objects(using).exclude(owner__startswith="source:")
    for owner in list(owners.values_list("owner", flat=True).distinct()):
        level_id = int(owner.rpartition(":")[2])
        if level_id in known or objects(using, "RollupLevel").filter(id=level_id).exists():
            continue
        removed += log.objects(using).filter(owner=owner).delete()[0]
    return removed
