"""What a policy is about, as rows of a table: a measurement's events, or a model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models.expressions import RawSQL

from tailrace.backends.reading.arguments import make_filters
from tailrace.backends.reading.columns import ReadingSchema
from tailrace.backends.reading.dialects import Dialect, Sql
from tailrace.backends.reading.query import Window
from tailrace.backends.reading.tables import EventTable, ReadingTable, Table
from tailrace.backends.rollups.ranges import MAX_US, MIN_US, datetime_of

RAW_MESSAGES = "tailrace.RawMessage"
_OURS = "tailrace"

Tags = Mapping[str, tuple[str, ...]]


class Target:
    """The rows that a policy is about."""

    def __init__(self, name: str, table: Table, source: str | ReadingSchema) -> None:
        """Use :func:`event_target` or :func:`model_target`."""
        self.name = name
        self.table = table
        self._source = source
        is_event = isinstance(source, str)
        self.model: Any = (
            apps.get_model(_OURS, "Event") if isinstance(source, str) else (source.model)
        )
        self.time_name: str = "time" if isinstance(source, str) else source.time.name
        self.is_event = is_event
        self.sources = (name,) if isinstance(source, str) else (name, _measurement(source))
        """What rollups over it may call it."""

    @property
    def using(self) -> str:
        """The alias that has it."""
        return str(self.table.dialect.connection.alias)

    def rows(self, low_us: int = MIN_US, high_us: int = MAX_US) -> Any:
        """Return the query set of its rows in a half-open range of time."""
        window = _window(low_us, high_us)
        rows = self.table.rows(window)
        for condition in self.table.conditions(Window(), {}):
            rows = rows.filter(RawSQL(condition.text, condition.params, models.BooleanField()))
        return rows

    def delete(self, rows: Any) -> int:
        """Delete the rows of a query set of this target; return how many there were."""
        if self.model._meta.app_label == _OURS:
            # Nobody has signals or foreign keys on what is ours, and a host's receiver for all
            # models must not make us load each row.
            return int(rows._raw_delete(rows.db))
        return int(rows.delete()[1].get(self.model._meta.label, 0))

    def condition(self, tags: Tags, *, of_all: bool) -> list[Sql]:
        """Return what makes a row one that has these tags (columns, of a model).

        Args:
            tags: The values that each may have.
            of_all: Whether it must have all, in one condition, or any, in one each.

        Raises:
            ValueError: the model has no such column, or that no such value.
        """
        filters = make_filters(self._source, tags)
        each = [{name: wanted} for name, wanted in filters.items()]
        return [self._joined(some) for some in ([filters] if of_all else each)]

    def before(self, time_us: int) -> Sql:
        """Return the condition that a row is older."""
        return _and(self.table.conditions(Window(None, datetime_of(time_us)), {}))

    def _joined(self, filters: Any) -> Sql:
        return _and(self.table.conditions(Window(), filters))


def event_target(dialect: Dialect, measurement: str) -> Target:
    """Return the events of a measurement."""
    return Target(measurement, EventTable(dialect, measurement), measurement)


def model_target(dialect: Dialect, model: Any) -> Target:
    """Return the rows of a model of readings, or those of ``RawMessage``.

    Raises:
        ValueError: its rows have no time.
    """
    schema = RawSchema(model) if model._meta.label == RAW_MESSAGES else ReadingSchema(model)
    return Target(schema.label, ReadingTable(dialect, schema), schema)


class RawSchema(ReadingSchema):
    """``RawMessage`` as a model of readings: its time has another name."""

    def __init__(self, model: Any) -> None:
        meta = model._meta
        self.model = model
        self.label = meta.label
        self.columns = {name: f for f in meta.concrete_fields for name in (f.name, f.attname)}
        self.time = meta.get_field("received_at")
        self.device = self.columns["device"]
        self.values = []


def measurements(using: str, low_us: int = MIN_US, high_us: int = MAX_US) -> Iterator[str]:
    """Yield the measurements that have events, by one look into the index for each.

    DISTINCT would read every row.

    Args:
        using: The database alias.
        low_us, high_us: Only events of this half-open range of time; that costs more, but where
            the range is a partition.
    """
    rows: Any = apps.get_model(_OURS, "Event")._base_manager.using(using)
    window = _window(low_us, high_us)
    if window.start is not None:
        rows = rows.filter(time__gte=window.start)
    if window.end is not None:
        rows = rows.filter(time__lt=window.end)
    names = rows.order_by("measurement").values_list("measurement", flat=True)
    last = names.first()
    while last is not None:
        yield last
        last = names.filter(measurement__gt=last).first()


def _window(low_us: int, high_us: int) -> Window:
    return Window(
        None if low_us == MIN_US else datetime_of(low_us),
        None if high_us == MAX_US else datetime_of(high_us),
    )


def _and(conditions: list[Sql]) -> Sql:
    params = tuple(param for each in conditions for param in each.params)
    return Sql(" AND ".join(each.text for each in conditions) or "1 = 1", params)


def _measurement(schema: ReadingSchema) -> str:
    return schema.label if isinstance(schema, RawSchema) else schema.measurement
