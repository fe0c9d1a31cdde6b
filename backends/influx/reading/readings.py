"""Readings of a model: a table elsewhere, points with a tag ``device_id`` here.

Functions of a column of numbers, of all devices or by device, are computed as those of events
are. For everything else (decimals, filters and groups by other columns) the readings of the
window are read, the columns that are needed only, and the memory backend's code answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db.models import NOT_PROVIDED

from tailrace.backends.model_values import converter
from tailrace.backends.reading.arguments import DEVICE_TAG
from tailrace.backends.reading.columns import TIME, ReadingSchema, kind_of
from tailrace.backends.reading.memory import MemoryReader
from tailrace.backends.reading.query import AggregateQuery, EventQuery, ReadingQuery, Window
from tailrace.backends.reading.result import Found
from tailrace.pipeline.event import Event

from . import stored
from .assembly import read_events
from .events import narrow
from .selection import Ask, Selection, of_fields

_WHOLE_FUNCTIONS = ("min", "max", "sum")


class ReadRows(MemoryReader):
    """Readings that were read, to be asked like those of the memory backend."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the rows, by ``attname``."""
        self.alias = "influx"
        self._rows = rows

    def stored_readings(self, model: type) -> Iterable[Mapping[str, Any]]:
        return self._rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which readings are to be read, and what of them."""

    schema: ReadingSchema
    window: Window
    columns: Sequence[Any] | None = None
    """Django fields; all without."""
    devices: tuple[Any, ...] | None = None
    """Primary keys; all without."""
    limit: int | None = None
    """The first so many by time are enough."""
    descending: bool = False

    @classmethod
    def of_readings(cls, asked: ReadingQuery) -> Wanted:
        """Return what answers :meth:`Reader.query_readings`."""
        by_time = asked.order is asked.schema.time
        return cls(
            schema=asked.schema,
            window=asked.window,
            columns=[*asked.fields.values(), asked.order],
            devices=None if asked.device_id is None else (asked.device_id,),
            limit=asked.limit if by_time else None,
            descending=asked.descending,
        )

    @classmethod
    def of_events(cls, schema: ReadingSchema, asked: EventQuery) -> Wanted:
        """Return what answers :meth:`Reader.query`."""
        columns = None
        if asked.fields is not None:
            columns = [*(schema.column(name) for name in asked.fields), *asked.tags]
        return cls(
            schema=schema,
            window=asked.window,
            columns=columns,
            devices=asked.tags.get(schema.device),
            limit=asked.limit if set(asked.tags) <= {schema.device} else None,
            descending=asked.descending,
        )

    @classmethod
    def of_aggregate(cls, schema: ReadingSchema, asked: AggregateQuery) -> Wanted:
        """Return what answers :meth:`Reader.aggregate`."""
        names = [*asked.group_by, *([] if asked.field is None else [asked.field])]
        return cls(
            schema=schema,
            window=asked.window,
            columns=[*(schema.column(name) for name in names), *asked.tags],
            devices=asked.tags.get(schema.device),
        )


def read(ask: Ask, bucket: str, wanted: Wanted) -> ReadRows:
    """Return readings."""
    if wanted.limit == 0:
        return ReadRows([])
    schema = wanted.schema
    tags = {} if wanted.devices is None else {DEVICE_TAG: tag_values(wanted.devices)}
    chosen = Selection.make(bucket, schema.measurement, wanted.window, tags)
    if chosen is not None and wanted.limit is not None:
        mark = of_fields([stored.ID])
        chosen = narrow(ask, chosen, mark, wanted.limit, descending=wanted.descending)
    if chosen is None:
        return ReadRows([])
    columns = schema.values
    if wanted.columns is not None:
        columns = [each for each in schema.values if each in wanted.columns]
    names = [name for each in columns for name in {each.name, each.attname}]
    events = read_events(ask, chosen, schema.measurement, names)
    return ReadRows(list(_rows(schema, columns, events)))


def _rows(
    schema: ReadingSchema, columns: Sequence[Any], events: Iterable[Event]
) -> Iterator[dict[str, Any]]:
    converters = [(each, converter(each)) for each in columns]
    key = schema.model._meta.pk.attname
    for event in events:
        # Numbers that a table gives its rows, there are none.
        row = {key: str(event.uuid), TIME: event.time}
        if schema.device is not None:
            row[schema.device.attname] = schema.value(schema.device, event.tags.get(DEVICE_TAG))
        for column, convert in converters:
            value = event.fields.get(column.attname, event.fields.get(column.name))
            row[column.attname] = _default(column) if value is None else convert(value)
        yield row


def _default(column: Any) -> Any:
    if column.has_default() or (column.empty_strings_allowed and not column.null):
        return column.get_default()
    return None


def tag_values(devices: Iterable[Any]) -> tuple[str | None, ...]:
    """Return primary keys as the tag has them."""
    return tuple(None if each is None else str(each) for each in devices)


@dataclasses.dataclass(frozen=True)
class AsEvents:
    """A question about readings that is answered as one about events."""

    question: AggregateQuery
    schema: ReadingSchema
    is_float: bool

    def finished(self, found: Iterable[Found]) -> Iterator[Found]:
        """Yield results as those of the model's columns."""
        for each in found:
            group = tuple(self.schema.value(self.schema.device, tag) for tag in each.group)
            result = float(each.result) if self.is_float else each.result
            yield Found(each.bucket, group, result)


def as_events(schema: ReadingSchema, asked: AggregateQuery) -> AsEvents | None:
    """Return the same question about events, if it is only about numbers and devices."""
    column = None if asked.field is None else schema.column(asked.field)
    if column is not None and (kind_of(column) not in ("int", "float") or _has_default(column)):
        return None
    others = {*asked.tags, *map(schema.column, asked.group_by)} - {schema.device}
    if others or (column is not None and column not in schema.values):
        return None
    devices = asked.tags.get(schema.device)
    tags = {} if devices is None else {DEVICE_TAG: tag_values(devices)}
    question = dataclasses.replace(
        asked,
        source=schema.measurement,
        field=None if column is None else column.attname,
        group_by=(DEVICE_TAG,) * len(asked.group_by),
        tags=tags,
    )
    is_float = kind_of(column) == "float" and asked.function in _WHOLE_FUNCTIONS
    return AsEvents(question, schema, is_float)


def _has_default(column: Any) -> bool:
    """Return whether a reading that does not name the column has a value all the same."""
    in_database = getattr(column, "db_default", NOT_PROVIDED)
    return bool(column.has_default()) or in_database is not NOT_PROVIDED
