"""A model of readings that subclasses nothing of ours, on every database of the suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, models

LABEL = "contract_readings"


class Station(models.Model):
    """A device."""

    name = models.CharField(max_length=40)

    class Meta:
        app_label = LABEL

    def __str__(self) -> str:
        return self.name


class WeatherStationReading(models.Model):
    """What a station measured. One column has a name that SQL must quote."""

    device = models.ForeignKey(Station, models.CASCADE)
    timestamp = models.DateTimeField(db_index=True)
    temperature = models.FloatField(null=True)
    visitors = models.BigIntegerField(null=True)
    rain = models.DecimalField(max_digits=12, decimal_places=3, null=True)
    is_open = models.BooleanField(null=True)
    note = models.CharField(max_length=40, blank=True, default="")
    order = models.IntegerField(null=True, db_column="odd name, select")
    seen = models.DateTimeField(null=True)
    extra = models.JSONField(default=dict)

    class Meta:
        app_label = LABEL

    def __str__(self) -> str:
        return f"{self.device_id} {self.timestamp}"


class Timeless(models.Model):
    """No model of readings."""

    value = models.FloatField()

    class Meta:
        app_label = LABEL

    def __str__(self) -> str:
        return str(self.value)


class ReadingsRouter:
    """Sends the readings where the test wants them."""

    alias = "default"

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return type(self).alias if model._meta.app_label == LABEL else None

    db_for_write = db_for_read


@contextmanager
def tables(alias: str) -> Iterator[None]:
    """Have the models' tables on an alias."""
    ReadingsRouter.alias = alias
    made = (Station, WeatherStationReading)
    with connections[alias].schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    try:
        yield
    finally:
        with connections[alias].schema_editor() as editor:
            for model in reversed(made):
                editor.delete_model(model)
        ReadingsRouter.alias = "default"
