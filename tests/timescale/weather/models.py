"""Ordinary models of a host, which know nothing of Tailrace."""

from __future__ import annotations

from django.db import models


class Station(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "weather"  # explicit, so that it can be imported where it is not installed


class WeatherReading(models.Model):
    device = models.ForeignKey(Station, on_delete=models.CASCADE)
    timestamp = models.DateTimeField()
    temperature = models.FloatField(null=True)
    rain_mm = models.IntegerField(null=True)
    price = models.DecimalField(max_digits=12, decimal_places=3, null=True)
    note = models.CharField(max_length=50, default="")

    class Meta:
        app_label = "weather"
        indexes = [
            models.Index(fields=["device", "timestamp"], name="weather_device_time"),
            models.Index(fields=["note"], name="weather_note"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(rain_mm__gte=0) | models.Q(rain_mm=None), name="weather_no_sun"
            )
        ]
