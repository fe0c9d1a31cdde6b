"""What all of these pages have in common: read-only, by key, on the storage's own database."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin import ShowFacets
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from tailrace.backends.django_errors import translated_errors
from tailrace.pipeline.context import suppress_recording
from tailrace.pipeline.errors import BackendError

from . import render
from .filters import DatabaseFilter
from .keyset import SCAN_MAX_ROWS, BadCursor, Order, Plan, read_page
from .storage import PARAMETER, chosen_database, database_query

PAGE_ROWS = 50
BEFORE, AFTER = "before", "after"

View = Callable[..., HttpResponse]


def telemetry_view(view: View) -> View:
    """Make a view of an admin class leave no telemetry, and explain a broken storage.

    The host's ``ATOMIC_REQUESTS`` is off for it: a replay writes on a connection of its own,
    which on SQLite would wait for the request's transaction until it gives up.
    """

    @transaction.non_atomic_requests
    @wraps(view)
    def wrapper(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if any("\0" in value for value in request.GET.values()):
            raise BadRequest("a query with a NUL, which PostgreSQL would not take")
        with suppress_recording():
            try:
                with translated_errors(chosen_database(request)):
                    response = view(self, request, *args, **kwargs)
                    if hasattr(response, "render"):
                        response.render()  # its queries run here
                    return response
            except BackendError as error:
                context = {
                    **self.admin_site.each_context(request),
                    "title": "The storage cannot be read",
                    "opts": self.opts,
                    "problem": str(error),
                }
                template = "tailrace/admin/unavailable.html"
                return TemplateResponse(request, template, context, status=503).render()

    return wrapper


class KeysetChangeList(ChangeList):
    """A list that is paged by key and never counted."""

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        # Where we are in the list is no filter: links of filters and of the search drop it.
        self._query = request.GET
        request.GET = request.GET.copy()
        for name in (BEFORE, AFTER):
            request.GET.pop(name, None)
        super().__init__(request, *args)
        self.title = self.opts.verbose_name_plural.capitalize()

    def get_results(self, request: HttpRequest) -> None:
        """Read the page."""
        plan = self.model_admin.plan(request, self)
        try:
            page = read_page(
                plan, self.list_per_page, self._query.get(BEFORE), self._query.get(AFTER)
            )
        except BadCursor as error:
            raise IncorrectLookupParameters(str(error)) from error
        rows = self.model_admin.page_rows(self.root_queryset.filter(pk__in=page.ids))
        by_id = {row.pk: row for row in rows} if page.ids else {}
        self.result_list = [by_id[pk] for pk in page.ids if pk in by_id]
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = bool(self.result_list)
        self.newest_link = self._link() if BEFORE in self._query or AFTER in self._query else None
        self.older_link = self._link(**{BEFORE: page.older}) if page.older else None
        self.newer_link = self._link(**{AFTER: page.newer}) if page.newer else None
        self.scan_note = _scan_note(plan.order, page.scanned_back_to)

    def filter_spec(self, kind: type) -> Any:
        """Return the filter of a kind, with what is chosen in it."""
        return next((spec for spec in self.filter_specs if isinstance(spec, kind)), None)

    def url_for_result(self, result: Model) -> str:
        """Return the page of a row, in the same database."""
        return str(self.model_admin.url_of(result))

    def _link(self, **cursor: str) -> str:
        return str(self.get_query_string(cursor))


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows a model of the storage; changes nothing."""

    actions: ClassVar[Any] = None
    change_list_template = "tailrace/admin/change_list.html"
    detail_template = "tailrace/admin/detail.html"
    list_display_links = None
    list_filter: ClassVar[Any] = (DatabaseFilter,)
    list_per_page = PAGE_ROWS
    order = Order()
    show_facets = ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css: ClassVar[Any] = {"all": ["tailrace/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(admin.ModelAdmin.has_view_permission(self, request, obj))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model._default_manager.using(chosen_database(request))
        return rows.all()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Allow the filters we show, and no look-up of a visitor's own: it would scan."""
        names: set[str] = set()
        for kind in self.list_filter:
            names.update(getattr(kind, "names", ()) or {kind.parameter_name})
        return lookup in names

    def plan(self, request: HttpRequest, changelist: KeysetChangeList) -> Plan:
        """Return how to read the list; by id unless a subclass knows better."""
        return Plan([changelist.queryset], self.order)

    def page_rows(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of a page with what the list shows of them."""
        return rows

    def url_of(self, row: Model) -> str:
        """Return the page of a row."""
        alias = row._state.db or ""
        return self.url(row._meta.model_name or "", "change", quote(row.pk), alias=alias)

    def url(self, model: str, view: str, *args: Any, alias: str = "", **query: str) -> str:
        """Return a page of a model of ours, with a query."""
        path = reverse(f"{self.admin_site.name}:tailrace_{model}_{view}", args=args)
        query = {**(database_query(alias) if alias else {}), **query}
        return f"{path}?{urlencode(query)}" if query else path

    def link_to(self, row: Model, text: str) -> str:
        """Return a link to the page of a row."""
        return format_html('<a href="{}">{}</a>', self.url_of(row), text)

    @telemetry_view
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    @telemetry_view
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": str(row),
            "opts": self.opts,
            "original": row,
            "media": self.media,
            "list_url": self.url(self.opts.model_name, "changelist", alias=row._state.db),
            "rows": self.detail_rows(row),
            **self.detail_context(request, row),
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.detail_template, context)

    @telemetry_view
    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        raise PermissionDenied  # nothing of this is changed by people

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the row of an id, or nothing."""
        try:
            return self.get_queryset(request).get(pk=self.opts.pk.to_python(object_id))
        except (self.model.DoesNotExist, ValidationError, ValueError, OverflowError):
            return None

    def detail_rows(self, row: Any) -> list[tuple[str, Any]]:
        """Return titles and values for the page of a row."""
        shown = []
        for column in self.opts.fields:
            value = getattr(row, column.attname)
            if hasattr(value, "tzinfo"):
                value = render.moment(value)
            shown.append((column.verbose_name, value))
        return shown

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return what the template of a row's page needs besides."""
        return {}


def _scan_note(order: Order, stopped: Any) -> str:
    if stopped is None:
        return ""
    where = f"back to {render.moment(stopped[0])}" if order.is_time else f"back to {stopped[0]}"
    return f"Looked through {SCAN_MAX_ROWS:,} rows, {where}. Older ones may match, too."


__all__ = ["PARAMETER", "KeysetChangeList", "ReadOnlyAdmin", "telemetry_view"]
