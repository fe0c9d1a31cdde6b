"""Readings of devices, and rows of other models, handed over like events.

A reading travels as an event: its measurement says which model it is of, the tag
``device_id`` which device, and its fields are the values. So every backend can store it; one
with tables of its own puts it into the model's (``tailrace.backends.model_tables``).

What a model is called, and which of its fields need an encoding, only the Django side knows;
it installs a function that tells.
"""

from __future__ import annotations

import base64
import enum
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

from . import recording
from .context import SUPPRESSED, current_trace
from .event import DEVICE_TAG, INVALID_MEASUREMENT, Value, ns_from_datetime
from .normalize import Rejection
from .shown import show

_to_json = msgspec.json.Encoder(decimal_format="number").encode
_PLAIN = frozenset({int, float, bool, type(None)})


class Target(NamedTuple):
    """What the pipeline has to know of a model."""

    measurement: str
    """What its rows are called among events."""
    encodings: Mapping[str, str] = {}
    """``json`` or ``base64``, by field, for values that are not numbers, booleans or text."""


Describe = Callable[[Any], Target]

_targets: dict[Any, Target] = {}


def _not_set_up(model: Any) -> Target:
    raise ValueError(
        "Tailrace is not set up in this process: add 'tailrace.django_integration' to "
        "INSTALLED_APPS and call django.setup()"
    )


_describe: Describe = _not_set_up


def install(describe: Describe) -> None:
    """Say how to find out about a model.

    Args:
        describe: Returns what there is to know of a model, or raises ``ValueError`` that says
            why its rows cannot be handed over.
    """
    global _describe
    _describe = describe
    _targets.clear()


def store_reading(
    reading_model: type, device: Any, timestamp: datetime, data: Mapping[str, Any]
) -> None:
    """Hand over one reading; it is stored soon. Never raises, never waits; about a microsecond.

    A reading that cannot be stored (a field that the model does not have, a value of the wrong
    type, a device that is gone, a naive timestamp) becomes a dead letter that names the
    reason; all others are stored.

    Args:
        reading_model: Which model the reading is of.
        device: The device, or its primary key.
        timestamp: When it was measured: an aware datetime.
        data: The values, by the names of the model's fields.
    """
    trace_id = current_trace()
    if trace_id is SUPPRESSED:
        return
    try:
        target = _targets.get(reading_model) or _target_of(reading_model)
        key = getattr(device, "pk", device)
        # A copy: the caller may go on to change its dict.
        raw = (target, key, data.copy() if data.__class__ is dict else _copy(data))
        when = _ns(timestamp)
    except Exception as error:  # noqa: BLE001 - the dead letter tells what is wrong
        _refuse(reading_model, timestamp, (device, data), error, trace_id)
        return
    recording.emit(target.measurement, when, _finish_reading, raw, trace_id)


def record_model(model: type, values: Mapping[str, Any], *, time: datetime | None = None) -> None:
    """Hand over one row of any registered model; it is stored soon. Never raises, never waits.

    Args:
        model: A model that ``tailrace.django_integration.readings.register_model`` knows.
        values: The row's values, by the names of the model's fields.
        time: When the event behind it happened, aware; now where it is left out. Only other
            backends (memory, InfluxDB) keep it: a table has the columns that it has.
    """
    trace_id = current_trace()
    if trace_id is SUPPRESSED:
        return
    try:
        target = _targets.get(model) or _target_of(model)
        raw = (target, None, values.copy() if values.__class__ is dict else _copy(values))
        when = _now_ns() if time is None else _ns(time)
    except Exception as error:  # noqa: BLE001 - the dead letter tells what is wrong
        _refuse(model, time or _now_ns(), (None, values), error, trace_id)
        return
    recording.emit(target.measurement, when, _finish_row, raw, trace_id)


def target_of(model: Any) -> Target:
    """Return what the pipeline knows of a model.

    Raises:
        ValueError: rows of it cannot be handed over; says why.
    """
    return _targets.get(model) or _target_of(model)


def wire_tags(device: Any) -> dict[str, str]:
    """Return the tags of a device's reading.

    Raises:
        Rejection: there is no such device, or it has not been saved.
    """
    if device is None:
        raise Rejection("it has no device, or one that was never saved")
    return {DEVICE_TAG: str(device)}


def wire_fields(target: Target, values: Mapping[str, Any]) -> dict[str, Value]:
    """Return values as an event carries them, without loss.

    Raises:
        Rejection: one of them cannot be.
    """
    encodings = target.encodings
    return {
        name: value
        if value.__class__ in _PLAIN and name not in encodings
        else _on_wire(name, value, encodings.get(name))
        for name, value in values.items()
    }


def unwired(text: str, encoding: str) -> Any:
    """Return what :func:`wire_fields` encoded.

    Raises:
        ValueError: it was cut on its way, or is nothing that was encoded.
    """
    if encoding == "base64":
        return base64.b64decode(text, validate=True)
    return msgspec.json.decode(text)


def _on_wire(name: str, value: Any, encoding: str | None) -> Any:
    if value is None:
        return None
    if encoding is not None:
        return _encoded(name, value, encoding)
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, Decimal):
        return _decimal_on_wire(value)
    if isinstance(value, str) and "\0" in value:
        # Elsewhere it is replaced; but typed fields are the host's data, not a log.
        raise Rejection(f"field {name!r} has a NUL in it, which databases cannot store")
    return getattr(value, "pk", value)  # a related object


def _encoded(name: str, value: Any, encoding: str) -> str:
    try:
        if encoding == "base64":
            return base64.b64encode(value).decode()
        return _to_json(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Rejection(f"field {name!r} cannot be stored as {encoding}: {error}") from error


def _decimal_on_wire(value: Decimal) -> float | str:
    """Return a number where a double is exactly it, else a text."""
    try:
        number = float(value)
        if not number - number and Decimal(repr(number)) == value:
            return number
    except (InvalidOperation, OverflowError, ValueError):
        pass  # a signalling NaN, or too large: the text tells
    return str(value)


def _finish_reading(
    raw: tuple[Target, Any, dict[str, Any]],
) -> tuple[dict[str, str], dict[str, Value]]:
    target, device, values = raw
    return wire_tags(device), wire_fields(target, values)


def _finish_row(raw: tuple[Target, Any, dict[str, Any]]) -> tuple[dict[str, str], dict[str, Value]]:
    target, _, values = raw
    return {}, wire_fields(target, values)


def _refuse(model: Any, when: Any, raw: Iterable[Any], error: Exception, trace_id: Any) -> None:
    """Hand over what becomes a dead letter."""
    target = _targets.get(model) if isinstance(model, type) else None
    measurement = target.measurement if target is not None else INVALID_MEASUREMENT
    time_ns = when if isinstance(when, int) else _now_ns()
    recording.emit(measurement, time_ns, _finish_refused, (str(error), raw), trace_id)


def _finish_refused(raw: tuple[str, Any]) -> tuple[dict[str, str], dict[str, Value]]:
    raise Rejection(raw[0])


def _ns(moment: Any) -> int:
    if not isinstance(moment, datetime):
        raise ValueError(f"the timestamp is {show(moment)}; pass an aware datetime")
    return ns_from_datetime(moment)


def _copy(values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"the values are {show(values)}; pass a dict by the names of fields")
    return dict(values)


def _target_of(model: Any) -> Target:
    target = _describe(model)
    _targets[model] = target
    return target


_now_ns = time.time_ns
