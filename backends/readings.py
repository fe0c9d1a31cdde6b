"""Readings written now, and deleted, on any database that Django can use."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.normalize import scalar
from tailrace.pipeline.readings import wire_fields, wire_tags

from .base import BaseBackend
from .django_errors import translated_errors, translated_rejections
from .model_keys import latest_by_device, missing_keys, update_last_seen
from .model_tables import (
    DEVICE,
    insert_rows,
    table_of,
)
from .private_connection import private_connection
from .reading.query import ReadingQuery
from .rollups.invalidation import instants, invalidate_times, row_times
from .written_models import is_reading, target_of

DELETE_ROWS = 5_000
"""In one transaction: others wait for the locks, and replicas for the end."""


class OrmReadings(BaseBackend):
    """What a backend on any Django database does with readings beside the drain.

    On the alias that the routers give the model, by a connection of our own: the host's open
    transaction is not touched, and what it has not committed yet is not seen.
    """

    def store_reading(
        self, reading_model: type, device: Any, timestamp: datetime, data: Mapping[str, Any]
    ) -> None:
        event = reading_event(reading_model, device, timestamp, data)
        table = table_of(reading_model)
        rows = [table.row(event)]
        using = table.alias
        with (
            translated_errors(using),
            private_connection(using),
            transaction.atomic(using=using),
        ):
            for reason in missing_keys(table, rows, using).values():
                raise ValueError(reason)
            with translated_rejections():
                insert_rows(table, rows, using)
            if table.device_place is not None:
                devices = table.fields[table.device_place]
                update_last_seen(devices, latest_by_device(table, rows))
            invalidate_times(using, table.label, row_times(table, rows))

    def delete_readings(
        self,
        reading_model: type,
        device: Any = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> int:
        asked = ReadingQuery.make(reading_model, device, start, end)
        model, window = asked.schema.model, asked.window
        bounds: dict[str, Any] = {"timestamp__gte": window.start, "timestamp__lt": window.end}
        wanted = {name: bound for name, bound in bounds.items() if bound is not None}
        if asked.device_id is not None:
            wanted[f"{DEVICE}_id"] = asked.device_id
        using = table_of(model).alias
        deleted = 0
        with translated_errors(using), private_connection(using):
            rows = model._base_manager.using(using).filter(**wanted)
            while found := list(rows.values_list("pk", "timestamp")[:DELETE_ROWS]):
                chosen = model._base_manager.using(using).filter(pk__in=[key for key, _ in found])
                with transaction.atomic(using=using):
                    counts = chosen.delete()[1]
                    times = [each for _, moment in found for each in instants(moment)]
                    invalidate_times(using, model._meta.label, times)
                deleted += counts.get(model._meta.label, 0)
        return deleted

    def health_check(self) -> dict[str, str]:
        using = self.get_db_alias()
        assert using is not None, f"{type(self).__name__} has a database"
        version = ""
        started = time.perf_counter()
        try:
            self.setup()
            with translated_errors(using), private_connection(using) as connection:
                connection.ensure_connection()
                version = _version(connection)
                self.read_checkpoint(0)
        except (BackendError, ImproperlyConfigured) as error:
            return {"status": "fail", "message": str(error), "version": version}
        took_ms = (time.perf_counter() - started) * 1000
        message = f"database {using!r} answers, and has Tailrace's tables ({took_ms:.1f} ms)"
        return {"status": "pass", "message": message, "version": version}


def reading_event(
    reading_model: Any, device: Any, timestamp: datetime, data: Mapping[str, Any]
) -> Event:
    """Return a reading as the event that it would have been.

    Raises:
        ValueError: it is none; says why.
    """
    target = target_of(reading_model)
    if not is_reading(reading_model):
        raise ValueError(f"{reading_model._meta.label} is no model of readings")
    if not isinstance(timestamp, datetime):
        raise ValueError(f"timestamp is {timestamp!r:.80}; pass an aware datetime")
    return Event(
        measurement=target.measurement,
        time_ns=ns_from_datetime(timestamp),
        tags=wire_tags(getattr(device, "pk", device)),
        fields={name: scalar(value) for name, value in wire_fields(target, data).items()},
        id=uuid.uuid4().bytes,
    )


def memory_readings(model: Any, events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return events as the rows that they would be, with numbers for keys where they stand."""
    table = table_of(model)
    key = model._meta.pk.attname
    names = [field.attname for field in table.fields]
    rows = []
    for number, event in enumerate(events, 1):
        row = {key: number, **dict(zip(names, table.row(event), strict=True))}
        rows.append(row)
    return rows


def selected_ids(asked: ReadingQuery, events: Sequence[Event]) -> set[bytes]:
    """Return the ids of the readings in a window, of a device."""
    rows = memory_readings(asked.schema.model, events)
    device = None if asked.device_id is None else f"{DEVICE}_id"
    return {
        event.id
        for event, row in zip(events, rows, strict=True)
        if event.time in asked.window and (device is None or row[device] == asked.device_id)
    }


def _version(connection: Any) -> str:
    numbers = connection.get_database_version()
    return f"{connection.display_name} {'.'.join(map(str, numbers))}"
