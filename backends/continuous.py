"""What can be computed before it is asked for: see :class:`ContinuousAggregates`."""

from __future__ import annotations

from datetime import datetime, timedelta

from tailrace.pipeline.interval import Interval

from .reader import Reader


class ContinuousAggregates(Reader):
    """A part of :class:`tailrace.backends.base.BaseBackend`."""

    def continuous_aggregate(
        self,
        name: str,
        reading_model: type,
        field: str | None,
        function: str = "avg",
        interval: str | timedelta | Interval = "1 hour",
        start_offset: str | timedelta | Interval | None = "1 month",
        end_offset: str | timedelta | Interval | None = "1 hour",
        schedule_interval: str | timedelta | Interval = "1 hour",
        with_data: bool = True,
    ) -> bool:
        """Have a function of a model's readings computed by device and bucket, and kept up to date.

        ``aggregate`` and ``downsample`` use it by themselves for what it can answer, joined with
        the readings that it does not have yet.

        Args:
            name: Of the continuous aggregate.
            reading_model: Whose readings.
            field: Of which field; ``None`` with ``count`` counts readings.
            function: As for ``aggregate``.
            interval: Width of the buckets, which are in UTC.
            start_offset: How far back each refresh looks; ``None``: to the beginning.
            end_offset: How far from now it stops; ``None``: not at all.
            schedule_interval: How often it is refreshed.
            with_data: Whether to compute all there is at once.

        Returns:
            Whether it was made; ``False`` if it is there already, with the same definition. Its
            schedule is then replaced.

        Raises:
            ValueError: an argument cannot be meant, or the name is taken.
            BackendMisconfigured: the model's readings are on another alias.
            NotSupportedByBackend: this backend has none.
        """
        raise self._not_supported("continuous_aggregate")

    def refresh_continuous_aggregate(
        self,
        name: str,
        reading_model: type,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        """Compute what changed in the buckets that lie within ``[start, end)``.

        Args:
            name: Of the continuous aggregate.
            reading_model: Whose readings it is of.
            start: First instant; from the beginning without.
            end: First instant that does not belong any more; as far as ``end_offset`` without.

        Raises:
            ValueError: there is none of that name, or the window holds no bucket.
            NotSupportedByBackend: this backend has none.
        """
        raise self._not_supported("refresh_continuous_aggregate")

    def drop_continuous_aggregate(self, name: str, reading_model: type) -> None:
        """Drop a continuous aggregate; readings stay.

        Raises:
            ValueError: there is none of that name.
            NotSupportedByBackend: this backend has none.
        """
        raise self._not_supported("drop_continuous_aggregate")
