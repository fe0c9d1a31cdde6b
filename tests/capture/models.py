"""One model, in a table that the tests make themselves."""

from __future__ import annotations

from django.db import models


class Item(models.Model):
    """A row to query."""

    name = models.CharField(max_length=50)

    class Meta:
        app_label = "capture"
