"""The filters beside the lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib.admin import ListFilter, SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from .keyset import distinct_values
from .storage import PARAMETER, backends_by_database, chosen_database

_PERIODS = (
    ("Past 15 minutes", timedelta(minutes=15)),
    ("Past hour", timedelta(hours=1)),
    ("Past 24 hours", timedelta(days=1)),
    ("Past 7 days", timedelta(days=7)),
)


class DatabaseFilter(SimpleListFilter):
    """Which database: only where backends store in more than one."""

    title = "database"
    parameter_name = PARAMETER

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        aliases = backends_by_database()
        return [(alias, alias) for alias in aliases] if len(aliases) > 1 else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset  # ReadOnlyAdmin.get_queryset has gone there already

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        chosen = chosen_database(self.request)
        for alias, title in self.lookup_choices:
            yield {
                "selected": alias == chosen,
                # What was chosen in one database need not exist in another.
                "query_string": f"?{PARAMETER}={alias}",
                "display": title,
            }


class BackendFilter(SimpleListFilter):
    """Which backend: only where several share a database."""

    title = "backend"
    parameter_name = "backend"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        backends = backends_by_database().get(chosen_database(request), [])
        return [(name, name) for name in backends] if len(backends) > 1 else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(backend=self.value()) if self.value() else queryset


class MeasurementFilter(SimpleListFilter):
    """Which measurement, of those there are."""

    title = "measurement"
    parameter_name = "measurement"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in model_admin.measurements(request)]

    def has_output(self) -> bool:
        return len(self.lookup_choices) > 1 or self.value() is not None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(measurement=self.value()) if self.value() else queryset


class StateFilter(SimpleListFilter):
    """Letters that wait, those that were replayed, or both."""

    title = "state"
    parameter_name = "state"
    WAITING, REPLAYED, ALL = "waiting", "replayed", "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(self.WAITING, "Waiting"), (self.REPLAYED, "Replayed"), (self.ALL, "All")]

    def value(self) -> str:
        """Return the state; ``waiting`` unless something else is chosen."""
        value = super().value()
        return value if value in (self.REPLAYED, self.ALL) else self.WAITING

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == self.ALL:
            return queryset
        return queryset.filter(replayed_at__isnull=self.value() == self.WAITING)

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        for value, title in self.lookup_choices:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }


class InputFilter(ListFilter):
    """A filter that is typed: inputs in a small form that keeps the other filters."""

    template = "tailrace/admin/input_filter.html"
    names: ClassVar[tuple[str, ...]]
    labels: ClassVar[tuple[str, ...]]
    input_type = "text"
    help_text = ""

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.names:
            if name in params:
                self.used_parameters[name] = str(params.pop(name)[-1])[:500]
        self.problem = ""

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str]:
        return list(self.names)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset

    def inputs(self) -> list[dict[str, str]]:
        """Return what the form shows."""
        return [
            {"name": name, "label": label, "value": self.used_parameters.get(name, "")}
            for name, label in zip(self.names, self.labels, strict=True)
        ]

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        # The template gets nothing but this filter, its title and these.
        for name, values in changelist.filter_params.items():
            if name not in self.names:
                yield {"hidden": True, "name": name, "value": values[-1]}
        if any(self.used_parameters.values()):
            yield {
                "display": "Clear",
                "query_string": changelist.get_query_string(remove=list(self.names)),
            }


class TimeRangeFilter(InputFilter):
    """From a time up to, and without, another one."""

    title = "time"
    names = ("since", "until")
    labels = ("From", "Before")
    input_type = "datetime-local"

    def inputs(self) -> list[dict[str, str]]:
        shown = super().inputs()
        for one in shown:
            parsed = _time(one["value"])
            if parsed is not None:
                one["value"] = f"{timezone.localtime(parsed):%Y-%m-%dT%H:%M:%S}"
        return shown

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        for name, lookup in zip(self.names, ("time__gte", "time__lt"), strict=True):
            text = self.used_parameters.get(name)
            if not text:
                continue
            parsed = _time(text)
            if parsed is None:
                self.problem = f"{text[:40]!r} is no time; write 2026-05-31T14:30"
                return queryset.none()
            queryset = queryset.filter(**{lookup: parsed})
        return queryset

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        yield from super().choices(changelist)
        now = timezone.localtime()
        for title, period in _PERIODS:
            since = f"{now - period:%Y-%m-%dT%H:%M:%S}"
            query = changelist.get_query_string({"since": since}, remove=["until"])
            yield {"display": title, "query_string": query}


class TagFilter(InputFilter):
    """Events with a certain tag, or field."""

    title = "tag or field"
    names = ("tag",)
    labels = ("Name = value",)
    help_text = "such as method=GET"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        text = self.used_parameters.get("tag", "")
        if text and "=" not in text:
            self.problem = "Write it as name=value."
            return queryset.none()
        return queryset

    @staticmethod
    def accepts(text: str) -> Callable[[tuple[Any, ...]], bool]:
        """Return whether a row of ``(tags, fields)`` has it."""
        name, _, value = (part.strip() for part in text.partition("="))

        def has_it(row: tuple[Any, ...]) -> bool:
            for values in row:
                found = values.get(name)
                if found is not None and (found == value or _as_text(found) == value):
                    return True
            return False

        return has_it


class ReasonFilter(InputFilter):
    """Letters whose reason contains something."""

    title = "reason"
    names = ("reason",)
    labels = ("Contains",)

    @staticmethod
    def accepts(text: str) -> Callable[[tuple[Any, ...]], bool]:
        """Return whether a row of ``(reason,)`` has it."""
        return lambda row: text in row[0]


def measurements_of(rows: QuerySet[Any], request: HttpRequest) -> list[str]:
    """Return the measurements there are, found once a request."""
    known: list[str] | None = getattr(request, "_tailrace_measurements", None)
    if known is None:
        known = distinct_values(rows, "measurement")
        request._tailrace_measurements = known
    return known


def _time(text: str) -> datetime | None:
    try:
        parsed = parse_datetime(text)
    except ValueError:
        return None
    if parsed is None or parsed.tzinfo is not None:
        return parsed
    return timezone.make_aware(parsed)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
