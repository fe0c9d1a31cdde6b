"""Orders: plain models on the default database."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """An order."""

    number = models.IntegerField(unique=True)
    note = models.CharField(max_length=100, default="")

    def __str__(self) -> str:
        return str(self.number)


class Line(models.Model):
    """A line of an order."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.product
