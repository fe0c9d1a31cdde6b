"""Exceptions by kind: since when, how often, and the latest ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html

from tailrace.backends.exception_groups import MEASUREMENT
from tailrace.django_integration.models import Event, ExceptionGroup

from . import render
from .base import BEFORE, ReadOnlyAdmin
from .filters import TagFilter
from .keyset import Order, Plan, read_page

LATEST_EVENTS = 5
_EVENTS = Order("time", is_time=True)


@admin.register(ExceptionGroup)
class ExceptionGroupAdmin(ReadOnlyAdmin):
    """Exception groups, the one that was seen last first."""

    detail_template = "tailrace/admin/exception_group.html"
    list_display = ("kind", "text", "location", "first", "last", "count", "events")
    order = Order("last_seen", is_time=True)

    @admin.display(description="type")
    def kind(self, group: ExceptionGroup) -> str:
        return self.link_to(group, group.type or render.NOTHING)

    @admin.display(description="message")
    def text(self, group: ExceptionGroup) -> str:
        return render.short(group.message, 120)

    @admin.display(description="first seen")
    def first(self, group: ExceptionGroup) -> str:
        return render.moment(group.first_seen)

    @admin.display(description="last seen")
    def last(self, group: ExceptionGroup) -> str:
        return render.moment(group.last_seen)

    @admin.display(description="events")
    def events(self, group: ExceptionGroup) -> str:
        return format_html('<a href="{}">Latest</a>', self._events_url(group))

    def detail_rows(self, row: ExceptionGroup) -> list[tuple[str, Any]]:
        return [
            ("type", row.type),
            ("location", row.location),
            ("first seen", render.moment(row.first_seen)),
            ("last seen", render.moment(row.last_seen)),
            ("count", row.count),
            ("fingerprint", row.fingerprint),
        ]

    def detail_context(self, request: HttpRequest, row: ExceptionGroup) -> dict[str, Any]:
        alias = row._state.db or ""
        rows = Event.objects.using(alias).filter(measurement=MEASUREMENT)
        accepts = TagFilter.accepts(f"fingerprint={row.fingerprint}")
        plan = Plan([rows], _EVENTS, accepts, ("tags", "fields"))
        ids = read_page(plan, LATEST_EVENTS, before=_after_last(row)).ids
        by_id = Event.objects.using(alias).in_bulk(ids)
        latest = [by_id[pk] for pk in ids if pk in by_id]
        return {
            "message": row.message,
            "events_url": self._events_url(row),
            "fields": render.pairs(latest[0].fields) if latest else [],
            "latest": [
                {
                    "time": render.moment(one.time),
                    "url": self.url_of(one),
                    "tags": render.tags(one.tags),
                    "trace_id": one.trace_id,
                    "trace_url": self.url("event", "changelist", alias=alias, q=one.trace_id),
                }
                for one in latest
            ],
        }

    def _events_url(self, group: ExceptionGroup) -> str:
        query = {
            "measurement": MEASUREMENT,
            "tag": f"fingerprint={group.fingerprint}",
            BEFORE: _after_last(group),
        }
        return self.url("event", "changelist", alias=group._state.db or "", **query)


def _after_last(group: ExceptionGroup) -> str:
    """Return the cursor right after the group's latest event: no need to look at newer ones."""
    return _EVENTS.encode((group.last_seen + timedelta(microseconds=1), 0))
