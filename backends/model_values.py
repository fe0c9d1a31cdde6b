"""From what an event carries to what a model's column holds, strictly.

Django's own conversions are made for forms: they take ``"25"`` and 25.7 for integers, and
leave ranges to the database, of which SQLite has none. Here a value has the column's type, or
the reason why not; the same on every database.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.operations import BaseDatabaseOperations
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime, parse_time

from tailrace.pipeline.readings import unwired
from tailrace.pipeline.shown import show

from .written_models import encoding_of

Convert = Callable[[Any], Any]
"""Returns the value as Django has it in Python; raises ``ValueError`` with what is wrong."""

_KEYS_KEPT = 10_000
_FAILURES = (TypeError, ArithmeticError, RecursionError, ValidationError)


def converter(field: Any) -> Convert:
    """Return what converts values of a field, ``None`` excepted."""
    target = field
    while target.is_relation:
        target = target.target_field
    if target is not field:
        return _key(target)
    for base, make in _MAKERS:
        if isinstance(field, base):
            return make(field)
    return _other(field)


def storable_text(value: str) -> str:
    """Return a text, if every database can hold it."""
    if "\0" in value:
        raise ValueError("has a NUL in it, which databases cannot store")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("has half a character in it (a lone surrogate)") from error
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _integer(field: Any) -> Convert:
    kind = field.get_internal_type()
    ranges = BaseDatabaseOperations.integer_field_ranges
    low, high = ranges.get(kind, ranges["BigIntegerField"])

    def convert(value: Any) -> int:
        if value.__class__ is int and low <= value <= high:
            return value
        if not _is_number(value) or value != value or value - value != 0 or value != int(value):
            raise ValueError(f"is {show(value)}, and must be an integer")
        if not low <= value <= high:
            raise ValueError(f"is {show(int(value))}, and must be from {low} to {high}")
        return int(value)

    return convert


def _float(field: Any) -> Convert:
    def convert(value: Any) -> float:
        if value.__class__ is float and value - value == 0.0:  # neither NaN nor infinite
            return value
        if not _is_number(value) or not math.isfinite(value):
            raise ValueError(f"is {show(value)}, and must be a finite number")
        return float(value)

    return convert


def _decimal(field: Any) -> Convert:
    digits, places = field.max_digits, field.decimal_places
    step = Decimal(1).scaleb(-places) if places is not None else None

    def convert(value: Any) -> Decimal:
        if not _is_number(value) and not isinstance(value, str):
            raise ValueError(f"is {show(value)}, and must be a number")
        try:
            exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
            if not exact.is_finite():
                raise ValueError(f"is {show(value)}, and must be a finite number")
            with localcontext(prec=digits):
                return exact.quantize(step) if step is not None else +exact
        except InvalidOperation as error:
            raise ValueError(
                f"is {show(value)}, and must be a number of at most {digits} digits, {places} of "
                "them after the point"
            ) from error

    return convert


def _boolean(field: Any) -> Convert:
    def convert(value: Any) -> bool:
        if isinstance(value, bool) or (_is_number(value) and value in (0, 1)):
            return bool(value)
        raise ValueError(f"is {show(value)}, and must be true or false")

    return convert


def _text(field: Any) -> Convert:
    longest = field.max_length

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"is {show(value)}, and must be text")
        if longest is not None and len(value) > longest:
            raise ValueError(f"has {len(value)} characters, and may have {longest}")
        return storable_text(str.__str__(value))

    return convert


def _moment(field: Any) -> Convert:
    def convert(value: Any) -> datetime:
        parsed = parse_datetime(value) if isinstance(value, str) else value
        if not isinstance(parsed, datetime):
            raise ValueError(f"is {show(value)}, and must be a date and time")
        if parsed.tzinfo is None:
            raise ValueError(f"is {show(value)}, which has no time zone; make it aware")
        try:
            in_utc = parsed.astimezone(UTC)
        except OverflowError as error:
            raise ValueError(f"is {show(value)}, which no database holds") from error
        return in_utc if settings.USE_TZ else timezone.make_naive(in_utc)

    return convert


def _day(field: Any) -> Convert:
    def convert(value: Any) -> date:
        parsed = parse_date(value) if isinstance(value, str) else value
        if not isinstance(parsed, date) or isinstance(parsed, datetime):
            raise ValueError(f"is {show(value)}, and must be a date")
        return parsed

    return convert


def _clock(field: Any) -> Convert:
    def convert(value: Any) -> time:
        parsed = parse_time(value) if isinstance(value, str) else value
        if not isinstance(parsed, time) or parsed.tzinfo is not None:
            raise ValueError(f"is {show(value)}, and must be a time of day without a zone")
        return parsed

    return convert


def _duration(field: Any) -> Convert:
    def convert(value: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if not _is_number(value):
            raise ValueError(f"is {show(value)}, and must be a duration in seconds")
        return timedelta(microseconds=round(value * 10**6))

    return convert


def _uuid(field: Any) -> Convert:
    def convert(value: Any) -> UUID:
        try:
            return value if isinstance(value, UUID) else UUID(str(value))
        except ValueError as error:
            raise ValueError(f"is {show(value)}, and must be a UUID") from error

    return convert


def _encoded(field: Any) -> Convert:
    encoding = str(encoding_of(field))
    is_json = encoding == "json"

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"is {show(value)}, and must be {encoding} text")
        try:
            decoded = unwired(value, encoding)
            if is_json and "\\u0000" in value:
                _refuse_nul(decoded)
        except ValueError as error:
            raise ValueError(
                f"cannot be stored as {encoding}: {error}. If it was cut on its way, raise "
                "TAILRACE['STRING_MAX_CHARS']"
            ) from error
        return decoded

    return convert


def _refuse_nul(value: Any) -> None:
    """Refuse the one text that PostgreSQL's jsonb has no place for."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(key)
            _refuse_nul(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_nul(item)
    elif isinstance(value, str) and "\0" in value:
        raise ValueError("it has a NUL in it")


def _key(target: Any) -> Convert:
    inner = _other(target)
    limits = BaseDatabaseOperations.integer_field_ranges.get(target.get_internal_type())

    @functools.lru_cache(maxsize=_KEYS_KEPT)
    def converted(text: str) -> Any:
        return slowly(text)

    def convert(value: Any) -> Any:
        # The same devices come again and again, and Django's validators take their time.
        return converted(value) if value.__class__ is str else slowly(value)

    def slowly(value: Any) -> Any:
        if isinstance(value, float | bool):
            raise ValueError(f"is {show(value)}, and must be a key")
        python = inner(value)
        if limits is not None and not limits[0] <= python <= limits[1]:
            raise ValueError(f"is {show(python)}, and there is no such key")
        return python

    return convert


def _other(field: Any) -> Convert:
    """Convert as Django does, for types that only it knows."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            storable_text(value)
        try:
            python = field.to_python(value)
            field.run_validators(python)
            field.get_prep_value(python)
        except _FAILURES as error:
            reason = "; ".join(error.messages) if isinstance(error, ValidationError) else error
            raise ValueError(f"is {show(value)}: {reason}") from error
        return python

    return convert


_MAKERS: tuple[tuple[Any, Callable[[Any], Convert]], ...] = (
    (models.IntegerField, _integer),
    (models.FloatField, _float),
    (models.DecimalField, _decimal),
    (models.BooleanField, _boolean),
    (models.DateTimeField, _moment),
    (models.DateField, _day),
    (models.TimeField, _clock),
    (models.DurationField, _duration),
    (models.UUIDField, _uuid),
    ((models.JSONField, models.BinaryField), _encoded),
    ((models.CharField, models.TextField), _text),
)
