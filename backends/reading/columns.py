"""The columns of a Django model of readings: the allow-list of every name in a query."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.utils import format_number

from tailrace.backends.written_models import is_reading, measurement_of
from tailrace.pipeline.event import INT_MAX, INT_MIN
from tailrace.pipeline.interval import aware

TIME = "timestamp"
DEVICE = "device"
_KINDS = (
    (models.IntegerField, "int"),
    (models.FloatField, "float"),
    (models.DecimalField, "decimal"),
)
_ORDERED = (models.DateField, models.TimeField, models.DurationField, models.BooleanField)
_NOT_GROUPED = (models.JSONField, models.BinaryField)


class ReadingSchema:
    """What a model's readings look like."""

    def __init__(self, model: Any) -> None:
        """Look at a model.

        Args:
            model: A concrete Django model with a DateTimeField ``timestamp``.

        Raises:
            ValueError: it is not.
        """
        meta = getattr(model, "_meta", None)
        if not isinstance(model, type) or meta is None or meta.abstract:
            raise ValueError(
                f"{model!r:.80} is neither the name of a measurement nor a concrete Django model"
            )
        self.model: Any = model
        self.label: str = meta.label
        own = [each for each in meta.concrete_fields if _is_in_table(each, meta.db_table)]
        self.columns: dict[str, Any] = {name: f for f in own for name in (f.name, f.attname)}
        time = self.columns.get(TIME)
        if not isinstance(time, models.DateTimeField):
            raise ValueError(
                f"{self.label} is no model of readings: it has no DateTimeField {TIME!r}"
            )
        self.time = time
        self.device = self.columns.get(DEVICE)
        known = {meta.pk, self.time, self.device}
        self.values = [each for each in own if each not in known]
        """The columns that hold what was measured."""

    @property
    def measurement(self) -> str:
        """What the readings are called among events: ``weatherstation``."""
        if is_reading(self.model):
            return measurement_of(self.model)
        name: str = self.model.__name__.lower()
        return name.removesuffix("reading") or name

    def column(self, name: object) -> Any:
        """Return the model's field ``name``.

        Raises:
            ValueError: there is none; lists those there are.
        """
        found = self.columns.get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(sorted({field.attname for field in self.columns.values()}))
            raise ValueError(f"{self.label} has no field {name!r:.80}; it has: {known}")
        return found

    def kind(self, name: object) -> str:
        """Return ``int``, ``float`` or ``decimal``.

        Raises:
            ValueError: the column does not exist, or holds no numbers.
        """
        column = self.column(name)
        kind = kind_of(column)
        if kind is not None:
            return kind
        raise ValueError(
            f"{self.label}.{column.name} is a {type(column).__name__}, which holds no numbers; "
            "only 'count' can be computed of it"
        )

    def grouped(self, name: object) -> Any:
        """Return the column ``name`` if rows can be grouped by it; else raise ``ValueError``."""
        column = self.column(name)
        if isinstance(column, _NOT_GROUPED):
            raise ValueError(
                f"{self.label}.{column.name}: cannot group by a {type(column).__name__}"
            )
        return column

    def ordered(self, order: object) -> tuple[Any, bool]:
        """Return the column that ``order`` names, and whether it is to descend.

        Raises:
            ValueError: it names none, or one of text: databases sort that in different ways.
        """
        if not isinstance(order, str):
            raise ValueError(f"order is {order!r:.80}; write '-{TIME}'")
        column = self.column(order.removeprefix("-"))
        numbers = tuple(base for base, _ in _KINDS)
        if column is not self.device and not isinstance(column, numbers + _ORDERED):
            raise ValueError(
                f"cannot order by {self.label}.{column.name}, a {type(column).__name__}; "
                f"use {TIME}, device_id, or a column of numbers or times"
            )
        return column, order.startswith("-")

    def value(self, column: Any, value: Any) -> Any:
        """Return ``value`` as the column holds it.

        Raises:
            ValueError: it can hold no such value.
        """
        if value is None:
            return None
        target = column.target_field if column.is_relation else column
        if isinstance(value, models.Model):
            value = value.pk
        try:
            python = target.to_python(value)
            # What the database cannot compare (a NUL in a text) fails here, not there.
            target.get_prep_value(_storable(python))
            if isinstance(target, models.DecimalField):
                format_number(python, target.max_digits, target.decimal_places)
        except (ValidationError, TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"{self.label}.{column.name} cannot be {value!r:.80}") from error
        return python

    def device_id(self, device: Any) -> Any:
        """Return the primary key of a device, given itself or its key.

        Raises:
            ValueError: the model has no devices, or it is none.
        """
        if self.device is None:
            raise ValueError(f"{self.label} has no field 'device'")
        return self.value(self.device, device)


def kind_of(column: Any) -> str | None:
    """Return ``int``, ``float`` or ``decimal``; ``None`` of columns that hold no numbers."""
    return next((kind for base, kind in _KINDS if isinstance(column, base)), None)


def _is_in_table(field: Any, table: str) -> bool:
    return bool(field.model._meta.db_table == table)


def _storable(value: Any) -> Any:
    if isinstance(value, datetime):
        aware(value, "a time")
    elif isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        raise ValueError("beyond 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    elif isinstance(value, str):
        value.encode()  # lone surrogates raise
        if "\0" in value:
            raise ValueError("NUL")
    return value


def in_utc(moment: datetime) -> datetime:
    """Return a datetime that Django read, in UTC; naive ones (``USE_TZ = False``) stay naive."""
    return moment.astimezone(UTC) if moment.tzinfo else moment
