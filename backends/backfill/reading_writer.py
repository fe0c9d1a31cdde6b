"""Writes readings into the rows of their model, on any alias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from tailrace.backends.django_errors import translated_rejections
from tailrace.backends.model_keys import latest_by_device, missing_keys, update_last_seen
from tailrace.backends.model_tables import insert_rows, table_of
from tailrace.backends.rollups.invalidation import invalidate_times, row_times
from tailrace.pipeline.errors import RejectedEvents
from tailrace.pipeline.event import Event


class ReadingWriter:
    """Writes rows of a model into an alias, which need not be the one that its routers name:
    a model is moved first, and the routers are changed when its rows are there."""

    def __init__(self, model: Any, using: str) -> None:
        """Keep both."""
        self._table = table_of(model)
        self._using = using
        self._latest: dict[Any, Any] = {}

    def write(self, events: Sequence[Event]) -> None:
        """Write readings.

        Raises:
            RejectedEvents: some of them are no rows, or the database refuses them.
        """
        rows, reasons = [], {}
        for at, event in enumerate(events):
            try:
                rows.append(self._table.row(event))
            except ValueError as error:
                reasons[at] = str(error)
        if not reasons:
            reasons = missing_keys(self._table, rows, self._using)
        if reasons:
            raise RejectedEvents(next(iter(reasons.values())), reasons)
        with translated_rejections(), transaction.atomic(using=self._using):
            insert_rows(self._table, rows, self._using)
            invalidate_times(self._using, self._table.label, row_times(self._table, rows))
        for device, seen in latest_by_device(self._table, rows).items():
            self._latest[device] = max(seen, self._latest.get(device, seen))

    def finish(self) -> None:
        """Move the devices' ``last_seen`` forward."""
        if self._table.device_place is not None:
            update_last_seen(self._table.fields[self._table.device_place], self._latest)
