"""A model that grows over three migrations."""

from __future__ import annotations

from django.db import models


class Part(models.Model):
    """A part."""

    name = models.CharField(max_length=20)
    colour = models.CharField(max_length=20, default="")
    weight = models.IntegerField(default=0)
    height = models.IntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["weight"], name="part_weight")]

    def __str__(self) -> str:
        return self.name
