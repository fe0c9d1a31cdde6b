"""What can be asked of a storage backend. Writing is the other half: ``base.py``.

Four methods, with the same answer on every backend for the same data. What holds for all:

**Windows** are half-open: ``start`` belongs to them, ``end`` does not; either may be left out.
Datetimes are aware. ``start`` must be before ``end``.

**Names.** Where a measurement's name is taken, a Django model of readings is taken too: one
with a ``timestamp`` DateTimeField and, where devices matter, a ``device`` foreign key. Its
concrete fields are the only names that are known then; an unknown one raises. Names of an
event's fields and tags are data, and may be anything that an event's may be.

**Numbers.** Functions other than ``count`` look at numbers only. Text, booleans, ``None`` and
missing fields are passed over; where nothing is left, there is no result (``None``), and no
row. (A model's columns have types, so that a function of a text column raises.) ``count``
counts the values that are not ``None``, of any type, and with ``field=None`` all events. The
``min``, ``max`` and ``sum`` of integers are exact integers, of any size; one float among them
makes a float. ``avg`` and percentiles are floats, ``min``, ``max`` and ``sum`` of decimal columns
are decimals. A float without fraction from 1e16 on that fits 64 bits counts as the integer that it
is: PostgreSQL's jsonb cannot tell them apart.

**Percentiles** interpolate linearly between the two nearest values, as PostgreSQL's
``percentile_cont`` does, of the values themselves. Only where a rollup answers (see
``docs/rollups.md``), they are read from its sketches, within 1 %.

**Buckets** are stamped with their start, as an aware datetime of the zone asked for;
``tailrace.pipeline.interval`` says which there are. Python compares datetimes of one zone by
their wall clock, on which an hour a year is there twice: use ``bucket.astimezone(UTC)`` as a
key.

**Errors.** What cannot be asked raises ``ValueError`` that says what can; trouble with the
storage raises :class:`TransientBackendError` or :class:`BackendMisconfigured`; what this
backend cannot do raises :class:`NotSupportedByBackend`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar

from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.interval import Interval

Source = str | type
"""A measurement's name, or a Django model of readings."""
Fill = str | int | None


class Reader:
    """The reading half of a backend. Override what the storage can do."""

    alias: str
    reading_functions: ClassVar[tuple[str, ...]] = (
        *("avg", "min", "max", "sum", "count"),
        *("p50", "p75", "p90", "p95", "p99"),
    )
    """What ``aggregate`` computes; a backend that lacks some of them says so here."""

    def query(
        self,
        measurement_or_model: Source,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        tags: Mapping[str, Any] | None = None,
        fields: Sequence[str] | None = None,
        limit: int | None = None,
        order: str = "-time",
        trace_id: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return events.

        Args:
            measurement_or_model: Whose.
            start: First instant.
            end: First instant that does not belong any more.
            tags: ``{name: value}``, ``{name: [values]}``; ``None`` as a value stands for
                events without that tag.
            fields: Names of those to return; all without.
            limit: How many at most, of the whole result in its order.
            order: ``"time"`` or ``"-time"``, newest first; equal times by ``id``.
            trace_id: Of this trace only.

        Returns:
            Dicts of ``id, measurement, time (UTC), tags, fields, trace_id``. Of a model: ``id`` is
            the primary key, the tag is ``device_id``, fields are the other columns.
        """
        raise self._not_supported("query")

    def query_readings(
        self,
        reading_model: type,
        device: Any = None,
        start: datetime | None = None,
        end: datetime | None = None,
        fields: Sequence[str] | None = None,
        limit: int | None = None,
        order: str = "-timestamp",
    ) -> list[dict[str, Any]]:
        """Return readings of a model.

        Args:
            reading_model: The model.
            device: A device or its primary key; all devices without.
            start: First instant.
            end: First instant that does not belong any more.
            fields: Names of columns to return; all without.
            limit: How many at most, of the whole result in its order.
            order: ``timestamp``, ``device_id`` or a column of numbers or times, ``-`` for
                descending; then by timestamp, device and primary key. ``None`` is last.

        Returns:
            Dicts of ``device_id, timestamp`` (UTC) and the fields.
        """
        raise self._not_supported("query_readings")

    def aggregate(
        self,
        measurement_or_model: Source,
        field: str | None,
        function: str = "avg",
        device: Any = None,
        start: datetime | None = None,
        end: datetime | None = None,
        interval: str | timedelta | Interval | None = None,
        group_by: Sequence[str] | None = None,
        tags: Mapping[str, Any] | None = None,
        tz: str | tzinfo | None = None,
        fill: Fill = None,
        use_rollups: bool = True,
    ) -> Any:
        """Return a function of a field: of all, of each bucket, of each group, or of both.

        Args:
            measurement_or_model: Whose field.
            field: Its name; ``None`` counts events.
            function: ``avg min max sum count p50 p75 p90 p95 p99``.
            device: A device or its primary key; of events, the tag ``device_id``.
            start: First instant.
            end: First instant that does not belong any more.
            interval: Width of the buckets; see ``tailrace.pipeline.interval``.
            group_by: Names of tags (of a model: columns); a missing tag groups as ``None``.
            tags: As in :meth:`query`.
            tz: Time zone whose days, weeks, months, years and hours are meant; UTC without.
            fill: What buckets without a value get, from ``start`` to ``end``: ``"null"``, ``0``
                or ``"previous"`` (the group's bucket before; ``None`` where there is none).
                Without it they have no row.
            use_rollups: Whether buckets that a rollup has computed may be used. The answer is the
                same, but for percentiles, which are then within 1 %.

        Returns:
            ``{"result": x}`` without interval and group_by, else rows: dicts of ``bucket``,
            ``result`` and the names grouped by, ordered by bucket, then by group.
        """
        raise self._not_supported("aggregate")

    def downsample(
        self,
        measurement_or_model: Source,
        field: str | None,
        interval: str | timedelta | Interval,
        function: str = "avg",
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Return :meth:`aggregate` by interval.

        Args:
            measurement_or_model: Whose field.
            field: Its name.
            interval: Width of the buckets.
            function: As for :meth:`aggregate`.
            **options: ``device, start, end, group_by, tags, tz, fill, use_rollups``, likewise.
        """
        if interval is None:
            raise ValueError("downsample() needs an interval, such as '5 minutes'")
        rows: list[dict[str, Any]] = self.aggregate(
            measurement_or_model, field, function, interval=interval, **options
        )
        return rows

    def _not_supported(self, what: str) -> NotSupportedByBackend:
        return NotSupportedByBackend(
            f"{type(self).__name__} (backend {self.alias!r}) has no {what}(); "
            "tailrace.backends.database.DatabaseBackend and tailrace.backends.memory.MemoryBackend "
            "are two that have it."
        )
