"""Customers of the old system: its table, never ours to change."""

from __future__ import annotations

from django.db import models


class Customer(models.Model):
    """A row of the old system's table."""

    name = models.CharField(max_length=100)

    class Meta:
        managed = False
        db_table = "erp_customer"

    def __str__(self) -> str:
        return self.name
