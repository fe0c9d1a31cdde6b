"""``/healthz`` and ``/readyz`` for load balancers: no login, no detail, no password."""

from __future__ import annotations

import threading
import time
from typing import Any

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from tailrace.django_integration.databases.health import HEALTHY, check_all_databases
from tailrace.django_integration.databases.selection import essential_aliases

#: One answer serves everyone who asks within this time: an open endpoint is no lever on databases.
READY_MAX_AGE_SECONDS = 1.0

_lock = threading.Lock()
_last: tuple[float, dict[str, Any]] | None = None


@never_cache
@require_safe
@transaction.non_atomic_requests
def healthz(request: HttpRequest) -> JsonResponse:
    """Say that this process answers. Touches no database."""
    return JsonResponse({"status": "pass"})


@never_cache
@require_safe
@transaction.non_atomic_requests
def readyz(request: HttpRequest) -> JsonResponse:
    """Say whether this process can serve: 200, or 503 if an essential database is down.

    ``status`` is ``pass``, ``warn`` (only a replica, telemetry or a legacy database is down) or
    ``fail``. Anyone may ask, so the answer tells nothing of hosts, users or the text of errors;
    these are on the admin page and in the log.
    """
    report = _report()
    return JsonResponse(report, status=503 if report["status"] == "fail" else 200)


def _report() -> dict[str, Any]:
    global _last
    with _lock:
        if _last is not None and time.monotonic() - _last[0] < READY_MAX_AGE_SECONDS:
            return {**_last[1], "age_seconds": round(time.monotonic() - _last[0], 3)}
        report = _ask()
        _last = (time.monotonic(), report)
    return report


def _ask() -> dict[str, Any]:
    answers = check_all_databases()
    down = {alias for alias, answer in answers.items() if answer["status"] != HEALTHY}
    status = "pass" if not down else "fail" if down & essential_aliases() else "warn"
    return {
        "status": status,
        "age_seconds": 0.0,
        "databases": {
            alias: {
                "status": answer["status"],
                "response_time": round(answer["response_time"], 6),
                "connection_count": answer["connection_count"],
                "replication_lag": answer["replication_lag"],
            }
            for alias, answer in answers.items()
        },
    }
