"""Rows of a host's models, made of events: what is checked, and what is asked of the database.

Everything that can be told from the event and the model is checked first, which is cheap and
gives the clear reasons; what only the database knows (a unique constraint, a trigger) shows
when the rows are written, and the drain finds the bad one by halving.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import OperationalError, ProgrammingError, connections, models, router
from django.db.models import NOT_PROVIDED
from django.utils import timezone

from tailrace.pipeline.errors import BackendMisconfigured, RejectedEvents
from tailrace.pipeline.event import DEVICE_TAG, Event

from .model_keys import missing_keys
from .model_values import converter
from .written_models import is_reading, measurement_of

DEVICE = "device"
TIME = "timestamp"
_ROWS_A_STATEMENT = 2_000
_NO_TABLE = ("no such table", "no such column", "has no column", "doesn't exist", "Unknown column")
_MISSING = object()

Row = list[Any]
"""Values in the order of :attr:`ModelTable.fields`."""


class ModelTable:
    """A model's table, as a target of events."""

    def __init__(self, model: Any) -> None:
        """Look at a model; nothing is asked of the database."""
        meta = model._meta
        self.model = model
        self.label: str = meta.label
        self.measurement = measurement_of(model)
        self.is_reading = is_reading(model)
        self.fields: list[Any] = [field for field in meta.concrete_fields if _is_written(field)]
        names = {field.name: place for place, field in enumerate(self.fields)}
        self.device_place: int | None = names.get(DEVICE) if self.is_reading else None
        self.time_place: int | None = names.get(TIME) if self.is_reading else None
        self._converters = [converter(field) for field in self.fields]
        defaults = [_default(field) for field in self.fields]
        # Most columns that an event does not name are simply empty, or always the same.
        self._blank: Row = [_constant(field) for field in self.fields]
        self._computed = [
            (place, default)
            for place, default in enumerate(defaults)
            if self._blank[place] is _MISSING
        ]
        self._places = self._settable()

    @property
    def alias(self) -> str:
        """The database alias that the routers give the model."""
        return str(router.db_for_write(self.model))

    @property
    def checked_keys(self) -> list[tuple[int, Any]]:
        """Place and field of the foreign keys whose rows must exist."""
        return [
            (place, field)
            for place, field in enumerate(self.fields)
            if field.is_relation and (field.db_constraint or place == self.device_place)
        ]

    def row(self, event: Event) -> Row:
        """Return an event as a row.

        Raises:
            ValueError: it is none; says what is wrong.
        """
        row = self._blank.copy()
        if self.time_place is not None:
            row[self.time_place] = _as_django_has_it(event.time)
        if self.device_place is not None:
            row[self.device_place] = self._value(self.device_place, event.tags.get(DEVICE_TAG))
        for name, value in event.fields.items():
            place = self._places.get(name)
            if place is None:
                known = ", ".join(sorted({self.fields[at].name for at in self._places.values()}))
                raise ValueError(f"{self.label} has no field {name!r:.120}; it has: {known}")
            row[place] = self._value(place, value)
        for place, default in self._computed:
            if row[place] is _MISSING:
                row[place] = default()
        return row

    def named_places(self, event: Event) -> set[int]:
        """Return the places of a row that an event has something to say about."""
        places = {self._places[name] for name in event.fields}
        return places | {at for at in (self.device_place, self.time_place) if at is not None}

    def instance(self, row: Row) -> Any:
        """Return a row as an object of the model."""
        return self.model(
            **{field.attname: value for field, value in zip(self.fields, row, strict=True)}
        )

    def _value(self, place: int, value: Any) -> Any:
        field = self.fields[place]
        if value is None:
            if field.null:
                return None
            raise ValueError(f"{self.label}.{field.name} has no value, and must have one")
        try:
            return self._converters[place](value)
        except (ValueError, ArithmeticError) as error:
            raise ValueError(f"{self.label}.{field.name} {error}") from error

    def _settable(self) -> dict[str, int]:
        fixed = {self.device_place, self.time_place}
        return {
            name: place
            for place, field in enumerate(self.fields)
            if place not in fixed
            for name in (field.name, field.attname)
        }


@functools.cache
def table_of(model: Any) -> ModelTable:
    """Return the table of a model."""
    return ModelTable(model)


def rows_by_table(
    events: Sequence[Event], models_by_measurement: dict[str, Any], using: str | None
) -> tuple[list[Event], dict[ModelTable, list[Row]]]:
    """Sort events by where they go.

    Args:
        events: What is to be written.
        models_by_measurement: The models that have rows of their own.
        using: The database alias that is written to; ``None`` checks values only.

    Returns:
        The events without a model, and the rows by table.

    Raises:
        RejectedEvents: some of them are no rows; with all positions and reasons.
        BackendMisconfigured: a model lives on another alias.
    """
    plain: list[Event] = []
    rows: dict[ModelTable, list[Row]] = {}
    places: dict[ModelTable, list[int]] = {}
    reasons: dict[int, str] = {}
    for at, event in enumerate(events):
        model = models_by_measurement.get(event.measurement)
        if model is None:
            plain.append(event)
            continue
        table = table_of(model)
        try:
            row = table.row(event)
        except ValueError as error:
            reasons[at] = str(error)
        else:
            rows.setdefault(table, []).append(row)
            places.setdefault(table, []).append(at)
    if using is not None:
        for table, listed in rows.items():
            check_alias(table, using)
            missing = missing_keys(table, listed, using)
            reasons.update({places[table][at]: reason for at, reason in missing.items()})
    if reasons:
        raise RejectedEvents(next(iter(reasons.values())), reasons)
    return plain, rows


def check_alias(table: ModelTable, using: str) -> None:
    """Refuse to write a model's rows to an alias where its readers do not look.

    Raises:
        BackendMisconfigured: says which entry of ``BACKENDS`` is missing.
    """
    if table.alias != using:
        raise BackendMisconfigured(missing_backend(table.label, table.alias))


def missing_backend(label: str, alias: str) -> str:
    """Return what to say where no backend stores on the alias of a model."""
    return (
        f"{label} lives on the database alias {alias!r} (its router says so), and no backend "
        f"stores there. Add to TAILRACE['BACKENDS']: {alias!r}: {{'BACKEND': "
        f"'tailrace.backends.django_db.DjangoDBBackend', 'OPTIONS': {{'ALIAS': {alias!r}}}}}, "
        f"and run: manage.py migrate tailrace --database={alias}"
    )


def insert_rows(table: ModelTable, rows: Sequence[Row], using: str) -> None:
    """Insert rows by ``bulk_create``, in the transaction that is open on an alias.

    Raises:
        BackendMisconfigured: the table is not there, or not as the model says.
        DatabaseError: the database refuses them.
    """
    with mismatch_told(table, using):
        instances = [table.instance(row) for row in rows]
        table.model._base_manager.using(using).bulk_create(instances, batch_size=_ROWS_A_STATEMENT)
        check_constraints(table, using)


def check_constraints(table: ModelTable, using: str) -> None:
    """Have the database check foreign keys now: at commit, nobody could tell which row it was."""
    connection = connections[using]
    if connection.vendor == "postgresql" and any(f.is_relation for f in table.fields):
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@contextmanager
def mismatch_told(table: ModelTable, using: str) -> Iterator[None]:
    """Say whose table it is that does not fit; by default, that would be one of Tailrace's."""
    try:
        yield
    except (OperationalError, ProgrammingError) as error:
        text = str(error)
        if isinstance(error, OperationalError) and not any(words in text for words in _NO_TABLE):
            raise
        meta = table.model._meta
        raise BackendMisconfigured(
            f"the table {meta.db_table!r} of {table.label} is not as the model says: "
            f"{text.strip()}. Run: manage.py migrate {meta.app_label} --database={using}"
        ) from error


def holds_row(model: Any, event: Event, using: str) -> bool:
    """Return whether the table has a row with everything that the event names.

    Rows have no event's id. Two equal ones count as one here: better to be asked twice than
    to store twice.
    """
    table = table_of(model)
    try:
        row = table.row(event)
    except ValueError:
        return False
    named = table.named_places(event)
    wanted = {table.fields[place].attname: row[place] for place in named}
    return bool(model._base_manager.using(using).filter(**wanted).exists())


def _is_written(field: Any) -> bool:
    return not (isinstance(field, models.AutoField) or getattr(field, "generated", False))


def _constant(field: Any) -> Any:
    """Return the value that a column always has without one, if there is such a value."""
    if getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED:
        return _MISSING
    if field.has_default():
        is_plain = field.default is None or isinstance(field.default, bool | int | float | str)
        return field.default if is_plain else _MISSING
    has_clock = getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)
    return None if field.null and not has_clock else _MISSING


def _default(field: Any) -> Callable[[], Any]:
    """Return what makes the value of a column that the event does not name."""
    if field.has_default() or getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED:
        get_default: Callable[[], Any] = field.get_default
        return get_default
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return lambda: field.to_python(timezone.now())
    if field.null:
        return lambda: None
    if field.blank and field.empty_strings_allowed:
        return str
    label = field.model._meta.label

    def refuse() -> Any:
        raise ValueError(f"{label}.{field.name} is missing, and must have a value")

    return refuse


def _as_django_has_it(moment: datetime) -> datetime:
    return moment if settings.USE_TZ else timezone.make_naive(moment)
