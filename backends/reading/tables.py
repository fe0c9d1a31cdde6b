"""Where rows come from: the table of events, or a model's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db import models

from tailrace.pipeline.errors import BackendMisconfigured

from .arguments import Filters
from .columns import ReadingSchema, in_utc, kind_of
from .dialects import Dialect, Sql
from .dialects.base import Number
from .query import Window


class Table(ABC):
    """A table with a time, things to group by and things to compute with."""

    def __init__(self, dialect: Dialect, model: Any, time: Any) -> None:
        """Take the model and its field for the time."""
        self.dialect = dialect
        self._model = model
        self._time = time
        self.name = dialect.name(model._meta.db_table)
        self.time = self._column(time)

    def _column(self, field: Any) -> str:
        return self.dialect.name(self._model._meta.db_table, field.column)

    def conditions(self, window: Window, filters: Filters) -> list[Sql]:
        """Return what rows must fulfil: be in a window, and pass filters."""
        found = []
        for bound, operator in ((window.start, ">="), (window.end, "<")):
            if bound is not None:
                value = self._time.get_db_prep_value(bound, self.dialect.connection)
                found.append(Sql(f"{self.time} {operator} %s", (value,)))
        return found + [self._filter(name, wanted) for name, wanted in filters.items()]

    def _filter(self, name: Any, wanted: tuple[Any, ...]) -> Sql:
        value = self.filtered(name)
        values = [each for each in wanted if each is not None]
        conditions = []
        if values:
            marks = ", ".join(self.mark(name) for _ in values)
            params = tuple(self.bound(name, each) for each in values)
            conditions.append(Sql(f"{value.text} IN ({marks})", value.params + params))
        if len(values) < len(wanted):
            conditions.append(Sql(f"{value.text} IS NULL", value.params))
        if not conditions:
            return Sql("1 = 0")
        params = tuple(param for each in conditions for param in each.params)
        return Sql(f"({' OR '.join(each.text for each in conditions)})", params)

    def rows(self, window: Window) -> Any:
        """Return a query set of the rows in a window."""
        bounds = {"gte": window.start, "lt": window.end}
        return self._model._base_manager.using(self.dialect.connection.alias).filter(
            **{f"{self._time.name}__{op}": at for op, at in bounds.items() if at is not None}
        )

    def extremes(self, window: Window) -> tuple[datetime | None, datetime | None]:
        """Return the first and the last time in a window, in UTC; by index, not by scan."""
        name = self._time.name
        times = self.rows(window).values_list(name, flat=True)
        # Not min() and max(): SQLite reads all rows when asked for both.
        found = [times.order_by(order).first() for order in (name, f"-{name}")]
        low, high = (None if each is None else in_utc(each) for each in found)
        return low, high

    @abstractmethod
    def filtered(self, name: Any) -> Sql:
        """Return what a filter compares."""

    @abstractmethod
    def mark(self, name: Any) -> str:
        """Return the placeholder of a value to compare with."""

    @abstractmethod
    def bound(self, name: Any, value: Any) -> Any:
        """Return a value to compare with, as the driver takes it."""

    @abstractmethod
    def group(self, name: str) -> Sql:
        """Return what is grouped by."""

    @abstractmethod
    def read_group(self, name: str, value: Any) -> Any:
        """Return a group's value as Python has it."""

    def decimal_places(self, name: str | None) -> int | None:
        """Return a decimal column's places; ``None`` for all other fields."""
        return None

    @abstractmethod
    def number(self, name: str) -> Number:
        """Return how to read a field."""


class EventTable(Table):
    """The events of one measurement."""

    def __init__(self, dialect: Dialect, measurement: str) -> None:
        """Take the measurement's name."""
        model = apps.get_model("tailrace", "Event")
        super().__init__(dialect, model, model._meta.get_field("time"))
        self._measurement = measurement
        self._tags = self._column(model._meta.get_field("tags"))
        self._fields = self._column(model._meta.get_field("fields"))

    def conditions(self, window: Window, filters: Filters) -> list[Sql]:
        column = self._column(self._model._meta.get_field("measurement"))
        found = [Sql(f"{column} = %s", (self._measurement,))]
        exact = self.dialect.text(column)
        if exact != column:  # `=` finds it by the index, and finds too much
            found.append(Sql(f"{exact} = {self.dialect.text('%s')}", (self._measurement,)))
        return found + super().conditions(window, filters)

    def rows(self, window: Window) -> Any:
        return super().rows(window).filter(measurement=self._measurement)

    def in_trace(self, trace_id: str) -> Sql:
        """Return the condition that an event is of a trace."""
        column = self._column(self._model._meta.get_field("trace_id"))
        exact = f"{self.dialect.text(column)} = {self.dialect.text('%s')}"
        return Sql(f"{column} = %s AND {exact}", (trace_id, trace_id))

    def filtered(self, name: Any) -> Sql:
        return self.dialect.tag(self._tags, name)

    def mark(self, name: Any) -> str:
        return self.dialect.text("%s")

    def bound(self, name: Any, value: Any) -> Any:
        return value

    def group(self, name: str) -> Sql:
        return self.dialect.tag(self._tags, name)

    def read_group(self, name: str, value: Any) -> Any:
        return self.dialect.read_text(value)

    def number(self, name: str) -> Number:
        return self.dialect.field(self._fields, name)


class ReadingTable(Table):
    """A model's readings."""

    def __init__(self, dialect: Dialect, schema: ReadingSchema) -> None:
        """Take the model's schema."""
        super().__init__(dialect, schema.model, schema.time)
        self.schema = schema

    def filtered(self, name: Any) -> Sql:
        column = self._column(name)
        return Sql(self.dialect.text(column) if _is_text(name) else column)

    def mark(self, name: Any) -> str:
        return self.dialect.text("%s") if _is_text(name) else "%s"

    def bound(self, name: Any, value: Any) -> Any:
        return _target(name).get_db_prep_value(value, self.dialect.connection)

    def group(self, name: str) -> Sql:
        return self.filtered(self.schema.column(name))

    def read_group(self, name: str, value: Any) -> Any:
        column = self.schema.column(name)
        connection = self.dialect.connection
        if _is_text(column):
            value = self.dialect.read_text(value)
        expression = _target(column).get_col(self._model._meta.db_table)
        for convert in (
            *connection.ops.get_db_converters(expression),
            *expression.get_db_converters(connection),
        ):
            value = convert(value, expression, connection)
        return value

    def decimal_places(self, name: str | None) -> int | None:
        column = self.schema.column(name)
        return column.decimal_places if kind_of(column) == "decimal" else None

    def number(self, name: str) -> Number:
        column = self.schema.column(name)
        return self.dialect.typed(self._column(column), kind_of(column))


def check_clock(connection: Any) -> None:
    """Refuse to put times into buckets that a database stores by a wall clock.

    Raises:
        BackendMisconfigured: says which setting to leave out.
    """
    if connection.features.supports_timezones or connection.timezone is UTC:
        return
    raise BackendMisconfigured(
        f"database {connection.alias!r} stores times by the clock of {connection.timezone}: leave "
        f"DATABASES[{connection.alias!r}]['TIME_ZONE'] out, and set USE_TZ = True"
    )


def _target(column: Any) -> Any:
    return column.target_field if column.is_relation else column


def _is_text(column: Any) -> bool:
    return isinstance(_target(column), models.CharField | models.TextField)
