"""What the InfluxDB backend has to remember, in the Django database that holds its books."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class InfluxProducer(models.Model):
    """Which number a producer has among those with events in one hour, and its late events."""

    id = models.BigAutoField(primary_key=True)
    backend = models.CharField(max_length=64)
    hour = models.BigIntegerField(help_text="Of the events' time: hours since 1970.")
    producer = models.CharField(max_length=20)
    slot = models.PositiveIntegerField(help_text="Written as the tag tailrace.slot, unless 0.")
    state = models.BinaryField(default=b"", help_text="See backends/influx/identity.py.")
    updated_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        verbose_name = "InfluxDB producer"
        constraints = (
            models.UniqueConstraint(
                fields=("backend", "producer", "hour"), name="tailrace_influx_producer"
            ),
            models.UniqueConstraint(
                fields=("backend", "hour", "slot"), name="tailrace_influx_slot"
            ),
        )

    def __str__(self) -> str:
        return f"{self.producer} in hour {self.hour}: slot {self.slot}"


class InfluxName(models.Model):
    """A value that a tag may have, or the type that a field's own name stands for."""

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=64, unique=True)
    backend = models.CharField(max_length=64)
    kind = models.CharField(max_length=8, choices=[("tag", "tag"), ("field", "field")])
    measurement = models.CharField(max_length=100)
    name = models.CharField(max_length=100)
    value = models.TextField(help_text="The tag's value, or int, float, str or bool.")

    class Meta:
        verbose_name = "InfluxDB name"
        indexes = (
            models.Index(fields=("backend", "measurement", "kind"), name="tailrace_influx_names"),
        )

    def __str__(self) -> str:
        return f"{self.measurement} {self.kind} {self.name}: {self.value}"
