"""The books of the drain: ledger, checkpoints and producers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from tailrace.django_integration.models import LedgerEntry, ProducerMark, ShardCheckpoint

from . import render
from .base import KeysetChangeList, ReadOnlyAdmin
from .filters import BackendFilter, DatabaseFilter
from .keyset import Order, Plan, distinct_values

_FILTERS = (DatabaseFilter, BackendFilter)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    """What the drain has booked, the latest minute first."""

    list_display = ("time", "measurement", "outcome", "amount", "backend", "shard")
    list_filter: ClassVar[Any] = _FILTERS
    order = Order("minute")

    @admin.display(description="minute")
    def time(self, entry: LedgerEntry) -> str:
        return self.link_to(entry, _minute(entry.minute))

    def plan(self, request: HttpRequest, changelist: KeysetChangeList) -> Plan:
        # The index starts with the backend, then comes the minute.
        rows = changelist.queryset
        chosen = changelist.params.get(BackendFilter.parameter_name)
        names = [chosen] if chosen else distinct_values(self.get_queryset(request), "backend")
        return Plan([rows.filter(backend=name) for name in names], self.order)

    def detail_rows(self, row: LedgerEntry) -> list[tuple[str, Any]]:
        rows = [pair for pair in super().detail_rows(row) if pair[0] != "minute"]
        return [("minute", _minute(row.minute)), *rows]


@admin.register(ShardCheckpoint)
class ShardCheckpointAdmin(ReadOnlyAdmin):
    """How far each backend is in each shard."""

    list_display = ("where", "position", "epoch", "updated")
    list_filter: ClassVar[Any] = _FILTERS

    @admin.display(description="backend and shard")
    def where(self, checkpoint: ShardCheckpoint) -> str:
        return self.link_to(checkpoint, f"{checkpoint.backend}, shard {checkpoint.shard}")

    @admin.display(description="moved at")
    def updated(self, checkpoint: ShardCheckpoint) -> str:
        return render.moment(checkpoint.updated_at)


@admin.register(ProducerMark)
class ProducerMarkAdmin(ReadOnlyAdmin):
    """What has been stored of each process that records."""

    list_display = ("name", "backend", "shard", "sequence", "captured", "has_exited", "updated")
    list_filter: ClassVar[Any] = _FILTERS

    @admin.display(description="producer")
    def name(self, mark: ProducerMark) -> str:
        return self.link_to(mark, mark.producer)

    @admin.display(description="events sent")
    def captured(self, mark: ProducerMark) -> int:
        return sum(mark.sent.values())

    @admin.display(description="exited", boolean=True)
    def has_exited(self, mark: ProducerMark) -> bool:
        return bool(mark.is_last)

    @admin.display(description="last frame stored")
    def updated(self, mark: ProducerMark) -> str:
        return render.moment(mark.updated_at)


def _minute(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return str(seconds)
