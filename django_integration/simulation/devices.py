"""Simulated devices: what they send, when, and how well."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from tailrace.backends.model_tables import ModelTable

from .curves import makers

_LATE_ROUNDS_MAX = 20
_DEVICES_A_QUERY = 500


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What is to be simulated."""

    count: int
    """Devices."""
    interval_seconds: float
    """Between two readings of a device."""
    duration_seconds: float
    is_realistic: bool = False
    clock_skew_seconds: float = 0.0
    """A device's clock is off by so much at most."""
    late: float = 0.0
    """Share of readings that come some intervals later than they were measured."""
    duplicates: float = 0.0
    """Share of readings that come twice."""
    seed: int = 0

    @property
    def rounds(self) -> int:
        """How often each device measures."""
        return max(1, round(self.duration_seconds / self.interval_seconds))


class Sent(NamedTuple):
    """One message of a device."""

    round: int
    device: Any
    timestamp: datetime
    data: dict[str, Any]
    is_late: bool
    is_duplicate: bool


def messages(
    fleet: Fleet, table: ModelTable, devices: list[Any], start: datetime
) -> Iterator[Sent]:
    """Yield what the devices send, in the order in which it arrives.

    Args:
        fleet: How they behave.
        table: Of the model of readings.
        devices: Primary keys.
        start: When the first reading is measured; aware.

    Raises:
        CannotSimulate: the model has a field that no value can be made up for.
    """
    chance = Random(fleet.seed)
    skews = [chance.uniform(-1, 1) * fleet.clock_skew_seconds for _ in devices]
    fixed = {table.device_place, table.time_place}
    fields = [field for place, field in enumerate(table.fields) if place not in fixed]
    made = [makers(fields, Random(chance.random()), fleet.is_realistic) for _ in devices]
    held: list[tuple[int, int, Sent]] = []
    numbers = itertools.count()
    for round_ in range(fleet.rounds):
        while held and held[0][0] <= round_:
            yield heapq.heappop(held)[2]._replace(round=round_)
        moment = start + timedelta(seconds=round_ * fleet.interval_seconds)
        for device, skew, make in zip(devices, skews, made, strict=True):
            # Devices do not measure all at once.
            own = moment + timedelta(seconds=skew + chance.random() * fleet.interval_seconds / 2)
            data = {name: value(own) for name, value in make.items()}
            is_late = chance.random() < fleet.late
            sent = Sent(round_, device, own, data, is_late, False)
            copies = 2 if chance.random() < fleet.duplicates else 1
            for copy in range(copies):
                message = sent._replace(is_duplicate=copy > 0)
                if is_late:
                    due = round_ + chance.randint(1, _LATE_ROUNDS_MAX)
                    heapq.heappush(held, (due, next(numbers), message))
                else:
                    yield message
    while held:
        yield heapq.heappop(held)[2]._replace(round=fleet.rounds)


def make_devices(table: ModelTable, count: int, prefix: str) -> list[Any]:
    """Return the primary keys of devices, made where they are not there yet.

    Args:
        table: Of the model of readings.
        count: How many.
        prefix: What their identifiers begin with; a number follows.

    Raises:
        ValueError: the model has another model of devices, and too few of them.
    """
    assert table.device_place is not None, "only readings have devices"
    model = table.fields[table.device_place].related_model
    if model._meta.label != "tailrace.Device":
        keys = list(model._base_manager.order_by("pk").values_list("pk", flat=True)[:count])
        if len(keys) < count:
            raise ValueError(
                f"{model._meta.label} has {len(keys)} rows, and {count} devices were asked for; "
                "make them first, or ask for fewer"
            )
        return keys
    names = [f"{prefix}{number:04d}" for number in range(1, count + 1)]
    found: dict[str, Any] = {}
    for start in range(0, count, _DEVICES_A_QUERY):
        some = names[start : start + _DEVICES_A_QUERY]
        fresh = [
            model(identifier=name, type=table.measurement, metadata={"simulated": True})
            for name in some
        ]
        model._base_manager.bulk_create(fresh, ignore_conflicts=True)
        rows = model._base_manager.filter(identifier__in=some)
        found.update(rows.values_list("identifier", "pk"))
    return [found[name] for name in names]
