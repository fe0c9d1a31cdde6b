"""Dead letters: what could not be stored and why, and how to put it back."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html

from tailrace.django_integration.models import DeadLetter
from tailrace.pipeline.codec import decode_header
from tailrace.pipeline.errors import FrameError

from . import render
from .base import KeysetChangeList, ReadOnlyAdmin, telemetry_view
from .filters import (
    BackendFilter,
    DatabaseFilter,
    MeasurementFilter,
    ReasonFilter,
    StateFilter,
    measurements_of,
)
from .keyset import Order, Plan
from .replay_views import may_replay, replay_matching, replay_selected

_REST = ("id", "time_ns", "trace_id", "rejected")
_REPLAYED = Order("replayed_at", is_time=True)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    """Dead letters, the latest first."""

    actions: ClassVar[Any] = ("replay",)
    change_list_template = "tailrace/admin/dead_letters.html"
    detail_template = "tailrace/admin/dead_letter.html"
    list_display = ("parked", "measurement", "content", "size", "events", "tries", "state")
    list_filter: ClassVar[Any] = (
        DatabaseFilter,
        BackendFilter,
        StateFilter,
        MeasurementFilter,
        ReasonFilter,
    )

    @admin.display(description="parked at")
    def parked(self, letter: DeadLetter) -> str:
        return self.link_to(letter, render.moment(letter.parked_at))

    @admin.display(description="reason and payload")
    def content(self, letter: DeadLetter) -> str:
        payload: dict[str, Any] = letter.payload or {}
        values = {**payload.get("tags", {}), **payload.get("fields", {})}
        labels = render.fields(values) if letter.payload is not None else "a frame"
        return format_html("<div>{}</div>{}", render.short(letter.reason, 160), labels)

    @admin.display(description="size")
    def size(self, letter: Any) -> str:
        if letter.payload is not None:
            return render.size(len(json.dumps(letter.payload)))
        return render.size(letter.frame_bytes or 0)

    @admin.display(description="attempts")
    def tries(self, letter: DeadLetter) -> int:
        return int(letter.attempts)

    @admin.display(description="replayed")
    def state(self, letter: DeadLetter) -> str:
        return render.moment(letter.replayed_at) if letter.replayed_at else "waiting"

    @admin.action(description="Replay selected dead letters", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        # What was ticked, and no "all across pages", which would have to count them.
        ticked = request.POST.getlist(ACTION_CHECKBOX_NAME)
        replay_selected(self, request, [int(text) for text in ticked if text.isdecimal()])

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Return whether this person may replay."""
        return may_replay(request)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.replay_matching_view)
        name = "tailrace_deadletter_replay"
        return [path("replay/", view, name=name), *super().get_urls()]

    @telemetry_view
    def replay_matching_view(self, request: HttpRequest) -> HttpResponse:
        """Ask, then replay all that wait and match the filters of the list."""
        return replay_matching(self, request)

    @transaction.non_atomic_requests
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        query = request.GET.copy()
        for name in list(query):
            if name not in ("database", "backend", "measurement", "reason"):
                del query[name]
        url = self.url("deadletter", "replay")
        link = f"{url}?{query.urlencode()}" if query else url
        context = {"replay_url": link if may_replay(request) else None, **(extra_context or {})}
        return super().changelist_view(request, context)

    def measurements(self, request: HttpRequest) -> list[str]:
        """Return the measurements that have dead letters."""
        return measurements_of(self.get_queryset(request), request)

    def plan(self, request: HttpRequest, changelist: KeysetChangeList) -> Plan:
        rows = changelist.queryset
        state = changelist.filter_spec(StateFilter).value()
        order = _REPLAYED if state == StateFilter.REPLAYED else self.order
        is_one = changelist.params.get(MeasurementFilter.parameter_name)
        if is_one or state == StateFilter.ALL:
            lanes = [rows]
        else:
            # The index: measurement, replayed or not, id.
            lanes = [rows.filter(measurement=name) for name in self.measurements(request)]
        text = changelist.params.get("reason", "")
        if not text:
            return Plan(lanes, order)
        return Plan(lanes, order, ReasonFilter.accepts(text), ("reason",))

    def page_rows(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        # A frame has up to a megabyte, and the list shows its size only.
        return rows.defer("frame").annotate(frame_bytes=Length("frame"))

    def detail_rows(self, row: DeadLetter) -> list[tuple[str, Any]]:
        return [
            ("measurement", row.measurement),
            ("parked at", render.moment(row.parked_at)),
            ("events", row.events or "not known"),
            ("backend and shard", f"{row.backend}, shard {row.shard}"),
            ("stream entry", row.entry_id or render.NOTHING),
            ("attempts", row.attempts),
            ("replayed at", render.moment(row.replayed_at)),
        ]

    def detail_context(self, request: HttpRequest, row: DeadLetter) -> dict[str, Any]:
        payload: dict[str, Any] = row.payload or {}
        parts = {name: payload.get(name) or {} for name in ("tags", "fields")}
        frame = bytes(row.frame) if row.frame is not None else b""
        return {
            "reason": row.reason,
            "tags": render.pairs(parts["tags"]),
            "fields": render.pairs(parts["fields"]),
            "payload": render.pairs(
                {name: payload.get(name) for name in _REST if payload.get(name)}
            ),
            "frame_size": render.size(len(frame)) if frame else "",
            "frame_hex": render.hexdump(frame),
            "frame_header": _header(frame) if frame else [],
            "may_replay": may_replay(request) and row.replayed_at is None,
            "checkbox_name": ACTION_CHECKBOX_NAME,
        }


def _header(frame: bytes) -> list[tuple[str, str, bool]]:
    try:
        header = decode_header(frame)
    except FrameError as error:
        return [("header", str(error), False)]
    shown = {
        "producer": header.producer.hex(),
        "sequence": header.sequence,
        "events": header.events,
    }
    return render.pairs(shown)
