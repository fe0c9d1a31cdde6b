"""Rows of slots and names, which are made once and are the same for all processes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

from django.db import models

from tailrace.pipeline.errors import TransientBackendError

from .identity import Place

ROWS_A_QUERY = 500
_ALLOCATION_ATTEMPTS = 10
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

Name = tuple[str, str, str, str]
"""Kind (``tag`` or ``field``), measurement, name and value."""


def placed(objects: Any, backend: str, places: Sequence[Place]) -> tuple[dict[Place, Any], bool]:
    """Return the rows of places, made where there are none.

    Returns:
        The rows, and whether some are new and have to be committed.
    """
    found: dict[Place, Any] = {}
    for attempt in range(_ALLOCATION_ATTEMPTS):
        missing = sorted((place for place in places if place not in found), key=_by_hour)
        found.update(_placed(objects, backend, missing))
        missing = [place for place in missing if place not in found]
        if not missing:
            return found, attempt > 0
        rows = objects.filter(backend=backend, hour__in={hour for _, hour in missing})
        largest = dict(rows.values_list("hour").annotate(models.Max("slot")).order_by())
        fresh = []
        for producer, hour in missing:
            slot = largest[hour] = largest.get(hour, -1) + 1
            fresh.append(
                objects.model(backend=backend, hour=hour, producer=producer.hex(), slot=slot)
            )
        # Drainers of other shards may want the same slot: whoever lost it asks again.
        objects.bulk_create(fresh, ignore_conflicts=True, batch_size=ROWS_A_QUERY)
    raise TransientBackendError("too many drainers want slots in the same hour; try again")


def _placed(objects: Any, backend: str, places: Sequence[Place]) -> dict[Place, Any]:
    wanted = set(places)
    found = {}
    hours = sorted({hour for _, hour in places})
    producers = sorted({producer.hex() for producer, _ in places})
    for first in range(0, len(hours), ROWS_A_QUERY):
        for start in range(0, len(producers), ROWS_A_QUERY):
            rows = objects.filter(
                backend=backend,
                hour__in=hours[first : first + ROWS_A_QUERY],
                producer__in=producers[start : start + ROWS_A_QUERY],
            )
            for row in rows:
                place = bytes.fromhex(row.producer), row.hour
                if place in wanted:
                    found[place] = row
    return found


def _by_hour(place: Place) -> tuple[int, bytes]:
    return place[1], place[0]


def admitted(
    objects: Any, backend: str, names: Collection[Name], limit: int
) -> tuple[dict[Name, str | None], bool]:
    """Store names that are new, unless there are too many of their sort.

    Args:
        objects: The manager of ``InfluxName``.
        backend: Whose names.
        names: In the order in which they came. Of a field, only the first type is stored.
        limit: How many values one tag may have.

    Returns:
        What is stored under each name, and whether some are new and have to be committed.
    """
    by_digest: dict[str, Name] = {}
    for each in names:
        by_digest.setdefault(_digest(backend, each), each)
    stored = _stored(objects, by_digest)
    counts: dict[tuple[str, str], int] = {}
    fresh = []
    for digest, (kind, measurement, name, value) in by_digest.items():
        if digest in stored:
            continue
        if kind == "tag":
            key = measurement, name
            if key not in counts:
                rows = objects.filter(backend=backend, kind=kind, name=_without_nul(name))
                counts[key] = rows.filter(measurement=_without_nul(measurement)).count()
            if counts[key] >= limit:
                continue
            counts[key] += 1
        fresh.append(
            objects.model(
                digest=digest,
                backend=backend,
                kind=kind,
                measurement=_without_nul(measurement),
                name=_without_nul(name),
                value=_without_nul(value),
            )
        )
    if fresh:
        objects.bulk_create(fresh, ignore_conflicts=True, batch_size=ROWS_A_QUERY)
        stored = _stored(objects, by_digest)
    return {name: stored.get(_digest(backend, name)) for name in names}, bool(fresh)


def tag_values(objects: Any, backend: str, measurement: str, tag: str) -> list[str]:
    """Return the stored values of a tag."""
    rows = objects.filter(backend=backend, kind="tag", name=_without_nul(tag))
    rows = rows.filter(measurement=_without_nul(measurement))
    return list(rows.values_list("value", flat=True))


def _stored(objects: Any, digests: Collection[str]) -> dict[str, str]:
    wanted = sorted(digests)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), ROWS_A_QUERY):
        rows = objects.filter(digest__in=wanted[start : start + ROWS_A_QUERY])
        found.update(rows.values_list("digest", "value"))
    return found


def _digest(backend: str, name: Name) -> str:
    """Return what a name is unique by: of a field, its type is not part of it."""
    kind, measurement, own, value = name
    parts = [backend, kind, measurement, own, *([value] if kind == "tag" else [])]
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _without_nul(text: str) -> str:
    """Return text as every database can hold it; the digest tells the names apart."""
    return text.replace("\0", _REPLACEMENT)
