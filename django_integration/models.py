"""What Tailrace keeps in the database of a backend.

Application code reads events through :func:`tailrace.backends.get_backend`; these models are
the storage behind the ORM backends, and what the admin shows.
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .backfills.models import Backfill, BackfillStep
from .fields import PlainJSONField
from .influx_models import InfluxName, InfluxProducer
from .rollup_models import Job, RollupBucket, RollupInvalidation, RollupLevel, RollupSource

__all__ = [
    "Backfill",
    "BackfillStep",
    "DeadLetter",
    "Device",
    "Event",
    "ExceptionGroup",
    "InfluxName",
    "InfluxProducer",
    "Job",
    "LedgerEntry",
    "ProducerMark",
    "RawMessage",
    "RollupBucket",
    "RollupInvalidation",
    "RollupLevel",
    "RollupSource",
    "ShardCheckpoint",
]


class Event(models.Model):
    """One observation."""

    id = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(help_text="The event's own id, the same in every backend.")
    measurement = models.CharField(max_length=100)
    time = models.DateTimeField()
    tags = PlainJSONField(default=dict)
    fields = PlainJSONField(default=dict)
    trace_id = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        verbose_name = "event"
        indexes = [
            models.Index(fields=["measurement", "time"], name="tailrace_event_meas_time"),
            models.Index(fields=["trace_id"], name="tailrace_event_trace"),
        ]

    def __str__(self) -> str:
        return f"{self.measurement} {self.time:%Y-%m-%d %H:%M:%S}"


class ShardCheckpoint(models.Model):
    """How far a backend has come in a shard; its row is the lock of that shard."""

    backend = models.CharField(max_length=64)
    shard = models.IntegerField()
    position = models.CharField(max_length=48, default="0-0")
    epoch = models.CharField(max_length=32, blank=True, default="")
    created_ns = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "checkpoint"
        permissions = [("view_database_health", "Can view database health")]
        constraints = [
            models.UniqueConstraint(fields=["backend", "shard"], name="tailrace_checkpoint_unique")
        ]

    def __str__(self) -> str:
        return f"{self.backend}/{self.shard} at {self.position}"


class ProducerMark(models.Model):
    """What a backend has stored of one producer."""

    backend = models.CharField(max_length=64)
    shard = models.IntegerField()
    producer = models.CharField(max_length=20, help_text="Hexadecimal.")
    sequence = models.BigIntegerField()
    sent = PlainJSONField(default=dict)
    unsent = PlainJSONField(default=dict)
    before = PlainJSONField(default=dict, help_text="Captured before the backend joined.")
    is_last = models.BooleanField(default=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "producer"
        constraints = [
            models.UniqueConstraint(
                fields=["backend", "shard", "producer"], name="tailrace_producer_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.producer} at {self.sequence}"


class LedgerEntry(models.Model):
    """How many events of a measurement had an outcome, in one minute of one shard."""

    backend = models.CharField(max_length=64)
    shard = models.IntegerField()
    minute = models.BigIntegerField(help_text="Its start, in seconds since 1970.")
    measurement = models.CharField(max_length=100)
    outcome = models.CharField(max_length=64)
    amount = models.BigIntegerField()

    class Meta:
        verbose_name = "ledger entry"
        verbose_name_plural = "ledger"
        constraints = [
            models.UniqueConstraint(
                fields=["backend", "minute", "measurement", "outcome", "shard"],
                name="tailrace_ledger_unique",
            )
        ]

    def __str__(self) -> str:
        return f"{self.measurement} {self.outcome}: {self.amount}"


class DeadLetter(models.Model):
    """An event, or a frame, that could not be stored, and why."""

    id = models.BigAutoField(primary_key=True)
    backend = models.CharField(max_length=64)
    shard = models.IntegerField()
    measurement = models.CharField(max_length=100, db_index=True)
    reason = models.TextField()
    events = models.IntegerField(
        default=1, help_text="How many events it stands for; 0 where that cannot be known."
    )
    payload = PlainJSONField(null=True, help_text="The event.")
    frame = models.BinaryField(null=True, help_text="The bytes, where they cannot be read.")
    entry_id = models.CharField(max_length=48, blank=True, default="")
    minute = models.BigIntegerField(default=0)
    parked_at = models.DateTimeField(auto_now_add=True)
    replayed_at = models.DateTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)

    class Meta:
        verbose_name = "dead letter"
        indexes = [
            # Lists of what waits (or was replayed), a measurement at a time.
            models.Index(fields=["measurement", "replayed_at", "id"], name="tailrace_letter_state")
        ]

    def __str__(self) -> str:
        return f"{self.measurement}: {self.reason[:80]}"


class ExceptionGroup(models.Model):
    """All exceptions with the same fingerprint."""

    fingerprint = models.CharField(max_length=64, unique=True)
    type = models.CharField(max_length=200)
    message = models.TextField(blank=True, default="", help_text="Of the latest one.")
    location = models.CharField(max_length=500, blank=True, default="")
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField(db_index=True)
    count = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = "exception group"

    def __str__(self) -> str:
        return f"{self.type} ({self.count})"


class Device(models.Model):
    """What sends readings: a sensor, a meter, a vehicle."""

    id = models.BigAutoField(primary_key=True)
    identifier = models.CharField(
        max_length=200, unique=True, help_text="What the device calls itself: a serial number."
    )
    name = models.CharField(max_length=200, blank=True, default="")
    type = models.CharField(max_length=100, blank=True, default="")
    metadata = PlainJSONField(default=dict, blank=True)
    last_seen = models.DateTimeField(
        null=True, blank=True, db_index=True, help_text="Timestamp of its latest reading."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "device"

    def __str__(self) -> str:
        return self.name or self.identifier


class RawMessage(models.Model):
    """A message as a device sent it, kept for the day when its parser turns out to be wrong."""

    id = models.BigAutoField(primary_key=True)
    device = models.ForeignKey(
        Device, null=True, blank=True, on_delete=models.SET_NULL, help_text="If it is known."
    )
    topic = models.CharField(max_length=500, blank=True, default="")
    payload = models.BinaryField()
    received_at = models.DateTimeField(default=timezone.now, db_index=True)
    error = models.TextField(blank=True, default="", help_text="Why it could not be understood.")

    class Meta:
        verbose_name = "raw message"

    def __str__(self) -> str:
        return f"{self.topic or 'message'} {self.received_at:%Y-%m-%d %H:%M:%S}"
