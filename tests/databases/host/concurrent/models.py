"""A model with two indexes, each built concurrently in its own way."""

from __future__ import annotations

from django.db import models


class Parcel(models.Model):
    """A parcel."""

    weight = models.IntegerField(default=0)
    height = models.IntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["weight"], name="parcel_weight"),
            models.Index(fields=["height"], name="parcel_height"),
        ]

    def __str__(self) -> str:
        return str(self.pk)
