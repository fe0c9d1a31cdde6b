"""Backfills: who started what, how it goes, and the buttons."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import msgspec
from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html

from tailrace.django_integration.backfills import service
from tailrace.django_integration.backfills.models import Backfill
from tailrace.pipeline.backfill import parameters
from tailrace.pipeline.backfill.contracts import Estimate
from tailrace.pipeline.backfill.parameters import ParameterError
from tailrace.pipeline.backfill.records import CANCELLED, DONE, FAILED, PAUSED, RUNNING

from . import render
from .backfills_buttons import BUTTONS, press
from .backfills_form import shown, told
from .backfills_progress import estimate_rows, status
from .backfills_start import choose_kind, may_run, start_kind
from .base import ReadOnlyAdmin, telemetry_view

WORK_COMMAND = "manage.py tailrace_backfill work {}"
_STATES = (RUNNING, PAUSED, FAILED, CANCELLED, DONE)


class KindFilter(SimpleListFilter):
    """Which kind."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, kind.title) for name, kind in service.kinds().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class StateFilter(SimpleListFilter):
    """Which state."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in _STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() else queryset


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    """Backfills, the latest first. They stay as a record of what was done."""

    change_list_template = "tailrace/admin/backfills.html"
    detail_template = "tailrace/admin/backfill.html"
    list_display = ("started", "what", "state_badge", "written", "by", "ended")
    list_filter: ClassVar[Any] = (KindFilter, StateFilter)

    class Media:
        css: ClassVar[Any] = {"all": ["tailrace/admin.css", "tailrace/backfills.css"]}

    # --- who may

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_run(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_run(request) or super().has_view_permission(request, obj)

    # --- the list

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = Backfill.objects.using(service.store().alias)
        return rows.all()

    def page_rows(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.defer("log")

    def url(self, model: str, view: str, *args: Any, alias: str = "", **query: str) -> str:
        """Return a page; all backfills are in one database, so that no link names it."""
        return super().url(model, view, *args, **query)

    @admin.display(description="started")
    def started(self, row: Backfill) -> str:
        return self.link_to(row, _second(row.created_at))

    @admin.display(description="what")
    def what(self, row: Backfill) -> str:
        values = msgspec.json.decode(row.parameters)
        given = {name: value for name, value in values.items() if value not in (None, "", [])}
        return format_html("<strong>{}</strong>{}", _title(row), render.fields(given))

    @admin.display(description="state")
    def state_badge(self, row: Backfill) -> str:
        return format_html(
            '<span class="tailrace-state tailrace-state-{}">{}</span>', row.state, row.state
        )

    @admin.display(description="written")
    def written(self, row: Backfill) -> str:
        if not row.result:
            return render.NOTHING
        return f"{msgspec.json.decode(row.result).get('rows_written', 0):,}"

    @admin.display(description="by")
    def by(self, row: Backfill) -> str:
        return row.created_by or render.NOTHING

    @admin.display(description="ended")
    def ended(self, row: Backfill) -> str:
        return _second(row.finished_at)

    # --- pages

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"tailrace_backfill_{name}")

        return [
            page("add/<str:kind>/", self.start_view, "start"),
            page("<path:object_id>/status/", self.status_view, "status"),
            page("<path:object_id>/press/", self.press_view, "press"),
            *super().get_urls(),
        ]

    @telemetry_view
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return choose_kind(self, request)

    @telemetry_view
    def start_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        """Ask, preview, and start."""
        return start_kind(self, request, kind)

    @telemetry_view
    def status_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return what has changed on a backfill's page, as JSON."""
        row, progress = self._found(request, object_id)
        shown = status(row, progress)
        if request.GET.get("log") == shown["log_key"]:
            shown["log"] = None
        return JsonResponse(shown, headers={"X-Content-Type-Options": "nosniff"})

    @telemetry_view
    def press_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Pause, resume, cancel or retry, and go back to the page."""
        if not may_run(request):
            raise PermissionDenied
        row, _ = self._found(request, object_id)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        action, seen = request.POST.get("action", ""), request.POST.get("seen", "")
        level, text = press(row.uid, action, seen, request.user.get_username())
        messages.add_message(request, level, text)
        return HttpResponseRedirect(self.url_of(row))

    def _found(self, request: HttpRequest, object_id: str) -> tuple[Any, service.Progress]:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        progress = service.progress(row.uid) if row else None
        if progress is None:
            raise Http404("there is no such backfill")
        return row, progress

    def detail_rows(self, row: Backfill) -> list[tuple[str, Any]]:
        return [
            ("kind", _title(row)),
            ("started by", row.created_by or render.NOTHING),
            ("started at", render.moment(row.created_at)),
            ("steps at once", row.workers),
            ("live traffic goes first", "yes" if row.is_throttled else "no"),
            ("id", row.uid),
        ]

    def detail_context(self, request: HttpRequest, row: Backfill) -> dict[str, Any]:
        progress = service.progress(row.uid)
        if progress is None:
            raise Http404("there is no such backfill")
        return {
            "title": progress.title,
            "status": status(row, progress),
            "ended_at": render.moment(row.finished_at) if row.finished_at else "",
            "asked": asked_rows(row),
            "estimate": estimate_rows(msgspec.json.decode(row.estimate, type=Estimate)),
            "estimate_notes": progress.estimate.notes,
            "buttons": BUTTONS if may_run(request) else (),
            "status_url": self.url("backfill", "status", row.pk),
            "press_url": self.url("backfill", "press", row.pk),
            "command": WORK_COMMAND.format(row.uid[:12]),
        }


def _second(value: datetime | None) -> str:
    """Return a time in the zone of the person who reads it."""
    return f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S}" if value else render.NOTHING


def _title(row: Backfill) -> str:
    kind = service.kinds().get(row.kind)
    return kind.title if kind else row.kind


def asked_rows(row: Backfill) -> list[tuple[str, str]]:
    """Return labels and values of a backfill's parameters, for people."""
    kind = service.kinds().get(row.kind)
    if kind is not None:
        known = tuple(kind.parameters())
        try:
            return told(parameters.from_json(known, row.parameters), known)
        except ParameterError:
            pass  # the kind asks for other things by now; what was given is shown as it is
    return [(name, shown(value)) for name, value in msgspec.json.decode(row.parameters).items()]
