"""What rollups and retention keep, in the database of the backend that they are of.

Times are integers, in microseconds since 1970 (UTC): they are compared, never shown from here, and
no database rounds them. JSON is text, since no query looks into it.
"""

from __future__ import annotations

from django.db import models


class RollupSource(models.Model):
    """A measurement or model that has rollups; its row is the lock between drains and refreshes.

    A drain that stores rows before ``threshold_us`` notes them as invalid; it holds the row
    (shared) until it has committed. A refresh moves the threshold forward, in a transaction of
    its own, before it reads rows. The row without backend and source is the gate: see
    ``tailrace.backends.rollups.invalidation``.
    """

    backend = models.CharField(max_length=64)
    source = models.CharField(max_length=200)
    threshold_us = models.BigIntegerField(help_text="First time that no refresh has reached.")
    floor_us = models.BigIntegerField(
        help_text="First time whose rows are all there: retention has been before it."
    )
    grain_us = models.BigIntegerField(
        default=1_000_000, help_text="Width of the finest buckets of its rollups."
    )

    class Meta:
        verbose_name = "rolled-up source"
        constraints = [
            # The source first: writers look for it in the rows of all backends.
            models.UniqueConstraint(fields=["source", "backend"], name="tailrace_rollup_source")
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.source}"


class RollupLevel(models.Model):
    """One level of a rollup, as its buckets were computed."""

    backend = models.CharField(max_length=64)
    rollup = models.CharField(max_length=64)
    level = models.BigIntegerField()
    source = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    declaration = models.TextField(help_text="What was declared, as JSON.")
    is_declared_here = models.BooleanField(
        default=False, help_text="By continuous_aggregate(), and in no settings."
    )
    floor_us = models.BigIntegerField(
        help_text="First time whose buckets are all there: retention has been before it."
    )

    class Meta:
        verbose_name = "rollup level"
        constraints = [
            models.UniqueConstraint(
                fields=["backend", "rollup", "level"], name="tailrace_rollup_level"
            )
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.rollup}:{self.level}"


class RollupInvalidation(models.Model):
    """A half-open range whose buckets have to be computed: of a source, or of one level."""

    id = models.BigAutoField(primary_key=True)
    owner = models.CharField(
        max_length=80, help_text="source:<its id>, level:<its id> or unwanted:<level's id>"
    )
    low_us = models.BigIntegerField()
    high_us = models.BigIntegerField()

    class Meta:
        verbose_name = "invalidation"
        indexes = [models.Index(fields=["owner", "low_us"], name="tailrace_invalid_owner")]

    def __str__(self) -> str:
        return f"{self.owner} {self.low_us}-{self.high_us}"


class RollupBucket(models.Model):
    """The partials of one field, in one group of one bucket."""

    id = models.BigAutoField(primary_key=True)
    level_id = models.BigIntegerField()
    bucket_us = models.BigIntegerField(help_text="Its first instant.")
    group = models.TextField(help_text="Values of the tags grouped by, as a JSON list.")
    field = models.CharField(max_length=200, blank=True, help_text="Empty: the rows themselves.")
    count = models.BigIntegerField(help_text="Values that are not null, of any type; or rows.")
    wholes = models.BigIntegerField(default=0, help_text="How many of them are integers.")
    others = models.BigIntegerField(default=0, help_text="How many are other numbers.")
    whole_sum = models.TextField(default="0", help_text="Exact, of any size.")
    other_sum = models.TextField(default="0", help_text="A float or a decimal.")
    whole_min = models.BigIntegerField(null=True)
    whole_max = models.BigIntegerField(null=True)
    other_min = models.TextField(blank=True, default="")
    other_max = models.TextField(blank=True, default="")
    sketch = models.BinaryField(null=True)

    class Meta:
        verbose_name = "rollup bucket"
        indexes = [models.Index(fields=["level_id", "bucket_us"], name="tailrace_bucket_level")]

    def __str__(self) -> str:
        return f"{self.level_id} {self.bucket_us} {self.group} {self.field}"


class Job(models.Model):
    """Regular work that one process at a time does: its lease, and its latest runs."""

    backend = models.CharField(max_length=64)
    name = models.CharField(max_length=150)
    owner = models.CharField(max_length=64, blank=True, default="")
    expires_us = models.BigIntegerField(default=0)
    runs = models.TextField(default="[]", help_text="The latest ones, as JSON, newest first.")

    class Meta:
        verbose_name = "job"
        constraints = [
            models.UniqueConstraint(fields=["backend", "name"], name="tailrace_job_unique")
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.name}"


class RetentionPolicy(models.Model):
    """A policy that ``create_retention_policy()`` made, and no settings."""

    backend = models.CharField(max_length=64)
    target = models.CharField(max_length=200, help_text="app_label.Model of the readings.")
    drop_after = models.CharField(max_length=32)

    class Meta:
        verbose_name = "retention policy"
        verbose_name_plural = "retention policies"
        constraints = [
            models.UniqueConstraint(fields=["backend", "target"], name="tailrace_policy_unique")
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.target} after {self.drop_after}"


class RetentionState(models.Model):
    """How far retention has come with one target."""

    backend = models.CharField(max_length=64)
    target = models.CharField(max_length=200)
    state = models.TextField(default="{}", help_text="As JSON.")

    class Meta:
        verbose_name = "retention state"
        constraints = [
            models.UniqueConstraint(fields=["backend", "target"], name="tailrace_retained_unique")
        ]

    def __str__(self) -> str:
        return f"{self.backend}: {self.target}"
