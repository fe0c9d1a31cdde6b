"""The record of backfills: who started what, when, with which parameters and result.

Kept cheap for SQLite, which reads the whole schema at each new connection: JSON is text here.
"""

from __future__ import annotations

from django.db import models


class Backfill(models.Model):
    """One backfill. It stays as a record when it is over."""

    id = models.BigAutoField(primary_key=True)
    uid = models.CharField(max_length=32, unique=True)
    kind = models.CharField(max_length=40)
    state = models.CharField(max_length=10, default="running")
    parameters = models.TextField(default="{}", help_text="As JSON, by name.")
    estimate = models.TextField(default="{}", help_text="As it was before the start, as JSON.")
    result = models.TextField(blank=True, default="", help_text="All steps' results, as JSON.")
    log = models.TextField(blank=True, default="", help_text="Its last lines.")
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    is_planned = models.BooleanField(default=False)
    is_throttled = models.BooleanField(default=True)
    workers = models.BigIntegerField(default=2, help_text="Steps that may run at once.")
    worker = models.CharField(max_length=100, blank=True, default="")
    lease_ms = models.BigIntegerField(default=0, help_text="Who plans or ends it has it until.")

    class Meta:
        app_label = "tailrace"
        verbose_name = "backfill"
        permissions = [("run_backfill", "Can start and stop backfills")]

    def __str__(self) -> str:
        return f"{self.kind} {self.uid[:8]}"


class BackfillStep(models.Model):
    """One step. In the database of a target, its row is the marker that it is done.

    A target may be in another database than the backfill, so there is no foreign key.
    """

    id = models.BigAutoField(primary_key=True)
    backfill = models.CharField(max_length=32, help_text="The backfill's uid.")
    number = models.BigIntegerField()
    state = models.CharField(max_length=10, default="ready")
    label = models.CharField(max_length=200, blank=True, default="")
    spec = models.TextField(default="{}")
    rows = models.BigIntegerField(default=0, help_text="How many there are, about.")
    result = models.TextField(blank=True, default="")
    error = models.TextField(blank=True, default="")
    attempts = models.BigIntegerField(default=0)
    worker = models.CharField(max_length=100, blank=True, default="")
    lease_ms = models.BigIntegerField(default=0, help_text="Nobody else takes it until then.")
    ended_ms = models.BigIntegerField(default=0)

    class Meta:
        app_label = "tailrace"
        verbose_name = "step of a backfill"
        verbose_name_plural = "steps of backfills"
        constraints = [
            models.UniqueConstraint(
                fields=["backfill", "number"], name="tailrace_backfillstep_unique"
            )
        ]
        indexes = [
            models.Index(fields=["backfill", "state", "number"], name="tailrace_backfillstep_state")
        ]

    def __str__(self) -> str:
        return f"{self.backfill[:8]}/{self.number}"
