"""The base of a host project's models of readings.

::

    class WeatherStationReading(ReadingModel):
        temperature = models.FloatField()
        humidity = models.FloatField(null=True)

    store_reading(WeatherStationReading, device, timestamp, {"temperature": 25.3})

``docs/readings.md`` tells the whole story.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from tailrace.backends.written_models import register_model
from tailrace.pipeline import record_model, store_reading

__all__ = ["ReadingModel", "record_model", "register_model", "store_reading"]


class ReadingModel(models.Model):
    """One reading of a device, with typed fields that the subclass adds.

    A ``Meta`` of your own should inherit from ``ReadingModel.Meta``, for the index by device.
    """

    reading_type: ClassVar[str] = ""
    """What the readings are called among measurements. Left empty, it is the class's name in
    lower case without ``reading``: ``weatherstation``."""
    is_written_behind: ClassVar[bool] = True
    """Marks the models whose events go into tables of their own."""

    # Explicit, because a host whose DEFAULT_AUTO_FIELD has 32 bits would run out of numbers.
    id = models.BigAutoField(primary_key=True)
    device = models.ForeignKey(
        "tailrace.Device",
        # Readings may live on another alias than devices, where no constraint reaches and no
        # cascade works. On the same one, a constraint would cost a look-up and a row lock a
        # reading, where one query a batch is enough; and a cascade would have the admin load
        # a million rows to ask whether one device may go. delete_readings() does that well.
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,  # the index by device and timestamp serves for both
        related_name="%(app_label)s_%(class)s_set",
    )
    timestamp = models.DateTimeField(db_index=True)

    class Meta:
        abstract = True
        ordering = ["-timestamp"]
        indexes = [models.Index(fields=["device", "timestamp"])]
