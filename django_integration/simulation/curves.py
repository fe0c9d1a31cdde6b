"""What a simulated device measures: values that fit the fields of a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

from django.db import models
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models import NOT_PROVIDED

_DAY_SECONDS = 86_400
_MISSING_SHARE = 0.01


class Curve(NamedTuple):
    """A day's curve: a mean, a swing from night to day, and noise."""

    mean: float
    swing: float
    noise: float
    low: float = -math.inf
    high: float = math.inf


_CURVES = {
    "temp": Curve(15.0, 7.0, 0.3, -60, 60),
    "humid": Curve(65.0, -20.0, 1.5, 0, 100),
    "press": Curve(1013.0, 4.0, 0.4, 870, 1085),
    "batt": Curve(80.0, 5.0, 0.2, 0, 100),
    "volt": Curve(230.0, 3.0, 0.8, 200, 250),
    "watt": Curve(900.0, 700.0, 90.0, 0),
    "power": Curve(900.0, 700.0, 90.0, 0),
    "speed": Curve(12.0, 6.0, 2.0, 0),
    "wind": Curve(12.0, 6.0, 2.0, 0),
    "lux": Curve(9_000.0, 9_000.0, 300.0, 0),
    "co2": Curve(600.0, 150.0, 15.0, 350),
    "level": Curve(50.0, 10.0, 0.5, 0, 100),
}
"""By what is part of a field's name."""
_ANY = Curve(50.0, 20.0, 2.0, 0, 100)

Make = Callable[[datetime], Any]


class CannotSimulate(ValueError):
    """A model has a field that no value can be made up for."""


def makers(fields: list[Any], chance: Random, is_realistic: bool) -> dict[str, Make]:
    """Return what makes the values of one device, by field.

    Args:
        fields: The model's fields, without device and timestamp.
        chance: Where randomness comes from.
        is_realistic: Curves of days, with the device's own character; else anything that fits.

    Raises:
        CannotSimulate: a field must have a value, and none can be made up.
    """
    made = {}
    for field in fields:
        make = _maker(field, chance, is_realistic)
        if make is not None:
            made[field.name] = make
        elif not (field.null or field.blank or _has_default(field)):
            raise CannotSimulate(
                f"{field.model._meta.label}.{field.name}: no value can be made up for a "
                f"{type(field).__name__}; give it a default, or allow null"
            )
    return made


def _maker(field: Any, chance: Random, is_realistic: bool) -> Make | None:
    if field.is_relation:
        return None
    if field.choices:
        keys = [key for key, _ in field.flatchoices]
        return lambda moment: chance.choice(keys)
    if isinstance(field, models.IntegerField | models.FloatField | models.DecimalField):
        return _number(field, chance, is_realistic)
    if isinstance(field, models.BooleanField):
        return lambda moment: chance.random() < 0.1
    if isinstance(field, models.DateTimeField):
        return lambda moment: moment
    if isinstance(field, models.DateField):
        return lambda moment: moment.date()
    if isinstance(field, models.DurationField):
        return lambda moment: timedelta(seconds=chance.uniform(0, 60))
    if type(field) in (models.CharField, models.TextField) and not field.blank:
        return lambda moment: "simulated"[: field.max_length or None]
    return None


def _number(field: Any, chance: Random, is_realistic: bool) -> Make:
    name = field.name.lower()
    curve = next((curve for part, curve in _CURVES.items() if part in name), _ANY)
    low, high = _limits(field)
    own = chance.gauss(0, abs(curve.swing) / 4)
    late_hours = chance.gauss(0, 1)

    def value(moment: datetime) -> float:
        if not is_realistic:
            spread = abs(curve.swing) + 5 * curve.noise
            return chance.uniform(curve.mean - spread, curve.mean + spread)
        seconds = moment.timestamp() - late_hours * 3_600
        # Warmest at three in the afternoon, coldest at three at night (UTC).
        day = math.sin((seconds / _DAY_SECONDS - 0.375) * 2 * math.pi)
        week = math.sin(seconds / _DAY_SECONDS / 7 * 2 * math.pi) / 3
        return curve.mean + own + curve.swing * (day + week) + chance.gauss(0, curve.noise)

    def make(moment: datetime) -> Any:
        if is_realistic and field.null and chance.random() < _MISSING_SHARE:
            return None
        number = min(max(value(moment), curve.low, low), curve.high, high)
        if isinstance(field, models.IntegerField):
            return round(number)
        if isinstance(field, models.DecimalField):
            return Decimal(repr(number)).quantize(Decimal(1).scaleb(-field.decimal_places))
        return round(number, 3)

    return make


def _limits(field: Any) -> tuple[float, float]:
    if isinstance(field, models.DecimalField):
        most = 10.0 ** (field.max_digits - field.decimal_places) - 1
        return -most, most
    ranges = BaseDatabaseOperations.integer_field_ranges
    return ranges.get(field.get_internal_type(), (-1e300, 1e300))


def _has_default(field: Any) -> bool:
    return field.has_default() or getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
