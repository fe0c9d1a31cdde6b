"""Page views, on the alias ``analytics``."""

from __future__ import annotations

from django.db import models


class PageView(models.Model):
    """One view of a page."""

    path = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.path


class DailyCount(models.Model):
    """Views of a page in a day; written again and again."""

    path = models.CharField(max_length=200)
    day = models.DateField()
    views = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["path", "day"], name="one_count_a_day")]

    def __str__(self) -> str:
        return f"{self.path} {self.day}"
