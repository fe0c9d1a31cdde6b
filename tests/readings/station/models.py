"""A host's models: readings of two kinds, and one that is no reading.

The label is explicit, because most tests use the models without the app being installed.
"""

from __future__ import annotations

import uuid

from django.db import models

from tailrace.django_integration.readings import ReadingModel, register_model


class WeatherStationReading(ReadingModel):
    """What a weather station measured."""

    temperature = models.FloatField()
    humidity = models.FloatField(null=True)
    pressure = models.DecimalField(max_digits=7, decimal_places=2, null=True)
    gusts = models.SmallIntegerField(null=True)
    visitors = models.BigIntegerField(null=True)
    is_raining = models.BooleanField(default=False)
    note = models.CharField(max_length=20, blank=True, default="")
    sunrise = models.DateTimeField(null=True)
    extra = models.JSONField(null=True)

    class Meta(ReadingModel.Meta):
        app_label = "station"


class MeterReading(ReadingModel):
    """One value a device and instant: the second one is refused."""

    reading_type = "power.meter"
    watts = models.IntegerField()

    class Meta(ReadingModel.Meta):
        app_label = "station"
        constraints = [
            models.UniqueConstraint(fields=["device", "timestamp"], name="station_meter_once")
        ]


class Page(models.Model):
    """What a visit is of."""

    path = models.CharField(max_length=100)

    class Meta:
        app_label = "station"

    def __str__(self) -> str:
        return self.path


@register_model
class Visit(models.Model):
    """No reading: a row of a model like any other, with a foreign key that has a constraint."""

    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    page = models.ForeignKey(Page, models.CASCADE)
    day = models.DateField()
    at = models.TimeField(null=True)
    took = models.DurationField(null=True)
    price = models.DecimalField(max_digits=20, decimal_places=10, null=True)
    body = models.BinaryField(null=True)
    details = models.JSONField(default=dict)
    address = models.GenericIPAddressField(null=True)
    stored_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "station"

    def __str__(self) -> str:
        return str(self.key)
