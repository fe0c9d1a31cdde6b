"""Rollups, continuous aggregates and retention of an InfluxDB backend, as the settings say."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps

from tailrace.backends.base import BaseBackend
from tailrace.backends.registry import backends
from tailrace.backends.rollups.continuous import continuous_rollup
from tailrace.backends.written_models import measurement_of
from tailrace.pipeline.errors import BackendMisconfigured, NotSupportedByBackend
from tailrace.pipeline.interval import Buckets as TimeBuckets
from tailrace.pipeline.interval import Interval, aware
from tailrace.pipeline.retention import Policy
from tailrace.pipeline.rollup import PERCENTILES, Rollup, rollups_of

from .client import InfluxApi
from .reading import InfluxReader
from .retention import Swept, apply
from .server import Buckets, Capabilities
from .tasks import RollupTasks

logger = logging.getLogger("tailrace")


class InfluxRollups(InfluxReader, BaseBackend):
    """A part of :class:`tailrace.backends.influxdb.InfluxDBBackend`."""

    api: InfluxApi
    bucket: str
    _told: frozenset[str] = frozenset()
    """Rollups that cannot be tasks and of which the log was told."""

    def capabilities(self) -> Capabilities:
        """Return what the server is and can do."""
        raise NotImplementedError

    def rollup_tasks(self) -> RollupTasks:
        """Return what makes, lists and removes the downsampling tasks of rollups.

        Raises:
            NotSupportedByBackend: this server has no tasks.
        """
        return self._tasks("rollup")

    def rollups(self) -> dict[str, Rollup]:
        """Return the rollups of the settings whose source this backend stores, by name."""
        found = rollups_of(backends.config.rollups)[0]
        return {name: rollup for name, rollup in found.items() if self._stores(rollup)}

    def refresh_due(self) -> Mapping[str, str]:
        """Make the server's tasks be those of the settings; they refresh themselves.

        Returns:
            What changed, and which rollups cannot be tasks, by rollup.
        """
        if not self.given_options.get("ROLLUP_TASKS", True) or not self.capabilities().tasks:
            return {}
        tasks = self.rollup_tasks()
        can, cannot = [], {}
        for name, rollup in self.rollups().items():
            try:
                for level in range(len(rollup.widths)):
                    tasks.script(rollup, level)
                can.append(rollup)
            except (NotSupportedByBackend, LookupError) as error:
                cannot[name] = f"no task: {error}"
        for name in cannot.keys() - self._told:
            logger.warning("backend %r: %s", self.alias, cannot[name])
        self._told = frozenset(cannot)
        changes = tasks.sync(can)
        return cannot | {
            name: what
            for what in ("created", "updated", "removed")
            for name in getattr(changes, what)
        }

    def refresh_rollup(
        self,
        name: str,
        start: datetime | None = None,
        end: datetime | None = None,
        **options: Any,
    ) -> Any:
        rollup = self.rollups().get(name)
        if rollup is None:
            known = ", ".join(sorted(self.rollups())) or "none"
            raise ValueError(f"no rollup {name!r} in backend {self.alias!r}; there are: {known}")
        return _computed(self.rollup_tasks(), rollup, start, end)

    # --- continuous aggregates

    def continuous_aggregate(
        self, name: str, reading_model: type, field: str | None, *args: Any, **options: Any
    ) -> bool:
        rollup = continuous_rollup(name, reading_model, field, *args, **options)
        if set(rollup.functions) & set(PERCENTILES):
            raise NotSupportedByBackend(
                f"continuous aggregate {name!r}: a task of InfluxDB has count, sum, avg, min and "
                "max; for percentiles, ask aggregate(), which computes them from the readings"
            )
        if not self._stores(rollup):
            raise BackendMisconfigured(
                f"backend {self.alias!r} does not store {rollup.source}; see its MEASUREMENTS"
            )
        tasks = self._tasks("aggregate")
        is_new = tasks.declare(rollup)
        if is_new and rollup.with_data:
            _computed(tasks, rollup, None, None)
        return is_new

    def refresh_continuous_aggregate(
        self,
        name: str,
        reading_model: type,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        tasks = self._tasks("aggregate")
        _computed(tasks, tasks.declared(name)[1], start, end)

    def drop_continuous_aggregate(self, name: str, reading_model: type) -> None:
        tasks = self._tasks("aggregate")
        tasks.remove(tasks.declared(name)[0])

    # --- retention

    def sweep(
        self, policies: Mapping[str, Policy], *, seconds: float, every_seconds: float = 0.0
    ) -> Swept:
        can = self.capabilities()
        can.require("buckets")
        can.require("deletes")
        buckets = Buckets(self.api, self.api.server.org)
        rollups = list(rollups_of(backends.config.rollups)[0].values())
        keeps_own = self.given_options.get("RETENTION_SECONDS") is not None
        return apply(self, None if keeps_own else buckets, policies, rollups)

    # --- shared

    def _tasks(self, kind: str) -> RollupTasks:
        self.capabilities().require("tasks")
        return RollupTasks(self.api, self._ask, self.bucket, kind)

    def _stores(self, rollup: Rollup) -> bool:
        source = rollup.source
        if rollup.is_of_model:
            try:
                source = measurement_of(apps.get_model(source))
            except LookupError:
                return False  # the system checks say so
        entry = backends.config.backends.get(self.alias)
        return entry is None or entry.accepts(source)


class Computed(str):
    """What a refresh did, as text."""

    seconds = 0.0


def _computed(
    tasks: RollupTasks, rollup: Rollup, start: datetime | None, end: datetime | None
) -> Computed:
    """Compute the buckets of all levels that lie within a window.

    Raises:
        ValueError: there is none.
    """
    began = datetime.now(UTC)
    until = began if rollup.end_offset is None else rollup.end_offset.before(began)
    until = until if end is None else min(aware(end, "end"), began)
    for level, width in enumerate(rollup.widths):
        low = None if start is None else bucket_start(width, aware(start, "start"), is_end=True)
        high = bucket_start(width, until, is_end=False)
        if low is not None and low >= high:
            if level == 0:
                raise ValueError(f"no bucket of {width} lies between {start} and {until}")
            continue
        tasks.materialise(rollup, level, low, high)
    done = Computed(f"{len(rollup.widths)} levels computed, before {until:%Y-%m-%d %H:%M:%S}")
    done.seconds = (datetime.now(UTC) - began) / timedelta(seconds=1)
    return done


def bucket_start(width: Interval, moment: datetime, *, is_end: bool) -> datetime:
    """Return the start of a moment's bucket in UTC; of the next one, where it is none's start."""
    start = TimeBuckets(width, UTC, moment, moment).start_of(moment)
    return width.after(start) if is_end and start < moment else start
