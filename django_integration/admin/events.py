"""Events: the list, and one with the others of its trace."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from tailrace.django_integration.models import Event

from . import render
from .base import KeysetChangeList, ReadOnlyAdmin
from .filters import (
    DatabaseFilter,
    MeasurementFilter,
    TagFilter,
    TimeRangeFilter,
    measurements_of,
)
from .keyset import Order, Plan

TRACE_EVENTS = 200
"""So many events of a trace are listed on the page of one of them."""
_MICROSECOND = timedelta(microseconds=1)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """Events by time, the newest first."""

    detail_template = "tailrace/admin/event.html"
    list_display = ("when", "what", "trace", "tag_labels", "field_labels")
    list_filter: ClassVar[Any] = (DatabaseFilter, MeasurementFilter, TimeRangeFilter, TagFilter)
    order = Order("time", is_time=True)
    search_fields = ("trace_id",)
    search_help_text = "A trace id, in full: all events of that trace."

    @admin.display(description="time")
    def when(self, event: Event) -> str:
        return self.link_to(event, render.moment(event.time))

    @admin.display(description="measurement")
    def what(self, event: Event) -> str:
        return event.measurement

    @admin.display(description="tags")
    def tag_labels(self, event: Event) -> str:
        return render.tags(event.tags)

    @admin.display(description="fields")
    def field_labels(self, event: Event) -> str:
        return render.fields(event.fields)

    @admin.display(description="trace")
    def trace(self, event: Event) -> str:
        if not event.trace_id:
            return render.NOTHING
        url = self.url("event", "changelist", alias=event._state.db or "", q=event.trace_id)
        return format_html(
            '<a href="{}" title="All events of trace {}"><code>{}</code></a>',
            url,
            event.trace_id,
            event.trace_id[:8],
        )

    def measurements(self, request: HttpRequest) -> list[str]:
        """Return the measurements that have events."""
        return measurements_of(self.get_queryset(request), request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        trace_id = search_term.strip()
        return (queryset.filter(trace_id=trace_id) if trace_id else queryset), False

    def plan(self, request: HttpRequest, changelist: KeysetChangeList) -> Plan:
        rows = changelist.queryset
        if changelist.query.strip() or changelist.params.get(MeasurementFilter.parameter_name):
            lanes = [rows]  # an index has them in order, or all of them in one place
        else:
            lanes = [rows.filter(measurement=name) for name in self.measurements(request)]
        text = changelist.params.get("tag", "")
        if not text:
            return Plan(lanes, self.order)
        return Plan(lanes, self.order, TagFilter.accepts(text), ("tags", "fields"))

    def detail_rows(self, row: Event) -> list[tuple[str, Any]]:
        return [
            ("measurement", row.measurement),
            ("time", f"{render.moment(row.time)} ({row.time.isoformat()})"),
            ("id", str(row.uid)),
        ]

    def detail_context(self, request: HttpRequest, row: Event) -> dict[str, Any]:
        alias = row._state.db or ""
        others, has_more = self._trace(request, row)
        first = others[0].time if others else row.time
        return {
            "tags": render.pairs(row.tags),
            "fields": render.pairs(row.fields),
            "trace_url": self.url("event", "changelist", alias=alias, q=row.trace_id),
            "has_more": has_more,
            "trace": [
                {
                    "offset": _offset(one.time - first),
                    "url": self.url_of(one),
                    "measurement": one.measurement,
                    "tags": render.tags(one.tags),
                    "fields": render.fields(one.fields),
                    "is_this": one.pk == row.pk,
                }
                for one in others
            ],
        }

    def _trace(self, request: HttpRequest, row: Event) -> tuple[list[Event], bool]:
        if not row.trace_id:
            return [], False
        rows = self.get_queryset(request).filter(trace_id=row.trace_id).order_by("time", "id")
        found = list(rows[: TRACE_EVENTS + 1])
        return found[:TRACE_EVENTS], len(found) > TRACE_EVENTS


def _offset(delta: timedelta) -> str:
    return f"+{delta / timedelta(milliseconds=1):,.3f} ms"
