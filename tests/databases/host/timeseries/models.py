"""Samples, a database a month."""

from __future__ import annotations

from django.db import models


class Sample(models.Model):
    """One measured value."""

    timestamp = models.DateTimeField(db_index=True)
    value = models.FloatField()

    def __str__(self) -> str:
        return f"{self.timestamp} {self.value}"
