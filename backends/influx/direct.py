"""Readings that are written now, not through the pipeline.

Their events get ids as others do: this process is a producer of its own. What its lanes have come
to need not outlive it, since the next process is another producer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .identity import Identity, Lanes, Place
from .rows import Name, admitted, placed, tag_values

_DIRECT_SHARD = b"\xff\xff"
_PLACES_MAX = 1_000
_NUMBER_BYTES = 6


class DirectProducer:
    """Numbers the readings that this process writes itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._producer = os.urandom(8) + _DIRECT_SHARD
        self._number = 0
        self._lanes: dict[Place, Lanes] = {}

    def next_id(self) -> bytes:
        """Return an id that no other event has."""
        with self._lock:
            # A forked child is another producer; and lanes are not to be kept for ever.
            if self._pid != os.getpid() or len(self._lanes) > _PLACES_MAX:
                self._start()
            self._number += 1
            return self._producer + self._number.to_bytes(_NUMBER_BYTES, "big")

    def lanes(self, place: Place) -> Lanes:
        """Return the lanes of a place, whose numbers only :class:`DirectBooks` takes."""
        with self._lock:
            return self._lanes.setdefault(place, Lanes())


class DirectBooks:
    """The books while one reading is encoded, in a transaction that is open."""

    is_replay = False
    is_copy = False

    def __init__(
        self, backend: str, objects: Callable[[str], Any], producer: DirectProducer
    ) -> None:
        """Take the backend's alias, the managers of our models, and who writes."""
        self._backend = backend
        self._objects = objects
        self._producer = producer
        self.identities: dict[bytes, Identity] = {}

    def admit(self, names: Collection[Name], limit: int) -> Mapping[Name, str | None]:
        """Store names; see :func:`tailrace.backends.influx.rows.admitted`."""
        return admitted(self._objects("InfluxName"), self._backend, names, limit)[0]

    def tag_values(self, measurement: str, tag: str) -> Collection[str]:
        """Return the stored values of a tag."""
        return tag_values(self._objects("InfluxName"), self._backend, measurement, tag)

    def reserve(self) -> None:
        """Do nothing: nobody else has this process's lanes."""

    def places(self, wanted: Collection[Place]) -> Mapping[Place, tuple[int, Lanes]]:
        """Return slot and lanes of places."""
        rows, _ = placed(self._objects("InfluxProducer"), self._backend, list(wanted))
        return {place: (row.slot, self._producer.lanes(place)) for place, row in rows.items()}
