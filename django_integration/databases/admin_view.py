"""The admin page of the databases: health, size, lag, dead space, slow statements."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db import Error, connections
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from tailrace.django_integration.databases.health import HEALTHY, check_all_databases
from tailrace.django_integration.databases.helpers import cached_read
from tailrace.django_integration.databases.inspection import (
    get_connection_info,
    get_database_sizes,
    get_slow_queries,
    get_table_bloat,
)
from tailrace.django_integration.databases.secrets import scrub
from tailrace.django_integration.databases.selection import essential_aliases
from tailrace.django_integration.databases.vendors import Answer
from tailrace.django_integration.routers.replica import replica_aliases

PERMISSION = "tailrace.view_database_health"
ROWS_SHOWN = 10
#: The statistics are read by scans of the server's catalogue; health is asked on every view.
STATISTICS_MAX_AGE_SECONDS = 60


def database_admin_urls(admin_site: AdminSite) -> list[URLPattern]:
    """Return the page's URL for an admin site, behind its login.

    Put it before ``admin_site.urls``: ``path("admin/", include(database_admin_urls(admin.site)))``.
    """

    def view(request: HttpRequest) -> HttpResponse:
        return database_health_view(request, admin_site)

    return [
        path("tailrace/databases/", admin_site.admin_view(view), name="tailrace_database_health")
    ]


def database_health_view(request: HttpRequest, admin_site: AdminSite) -> HttpResponse:
    """Show the page to users with ``tailrace.view_database_health``.

    Raises:
        PermissionDenied: to everyone else; being staff is not enough to read statements.
    """
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    statistics = cached_read(
        "tailrace:databases:statistics", _statistics, max_age_seconds=STATISTICS_MAX_AGE_SECONDS
    )
    context = {
        **admin_site.each_context(request),
        "title": "Databases",
        "databases": _rows(),
        "statistics": statistics.value,
        "statistics_age_seconds": round(statistics.age_seconds),
    }
    return TemplateResponse(request, "tailrace/databases/health.html", context)


def _rows() -> list[dict[str, Any]]:
    health = check_all_databases()
    info = get_connection_info()
    essential, replicas = essential_aliases(), replica_aliases()
    return [
        {
            "alias": alias,
            "is_healthy": answer["status"] == HEALTHY,
            "is_essential": alias in essential,
            "is_replica": alias in replicas,
            "response_ms": round(answer["response_time"] * 1000, 2),
            **answer,
            **info[alias],
        }
        for alias, answer in health.items()
    ]


def _statistics() -> list[dict[str, Any]]:
    sizes = get_database_sizes()
    return [
        {
            "alias": alias,
            "size": found["size"],
            "error": found["error"],
            "bloat": _ask(get_table_bloat, alias) if found["error"] is None else None,
            "slow": _ask(get_slow_queries, alias) if found["error"] is None else None,
        }
        for alias, found in sizes.items()
    ]


def _ask(question: Any, alias: str) -> dict[str, Any]:
    try:
        answer: Answer = question(alias, ROWS_SHOWN)
    except Error as error:
        connections[alias].close()
        return {"rows": [], "reason": scrub(error)}
    return {"rows": list(answer), "reason": answer.reason}
