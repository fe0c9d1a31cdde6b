"""Are the databases there? Asked of all at once, with a deadline, by threads of their own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable
from typing import Any

from django.db import Error, connections

from tailrace.django_integration.databases.inspection import get_replication_lag
from tailrace.django_integration.databases.secrets import scrub
from tailrace.django_integration.databases.selection import select_aliases
from tailrace.django_integration.databases.vendors import vendor_of
from tailrace.django_integration.routers.replica import replica_aliases
from tailrace.pipeline import suppress_recording

logger = logging.getLogger("tailrace.databases")

HEALTHY, UNHEALTHY = "healthy", "unhealthy"
#: A load balancer asks every few seconds, and gives up after about as many.
TIMEOUT_SECONDS = 5.0


def check_all_databases(
    databases: Iterable[str] | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> dict[str, dict[str, Any]]:
    """Ask every database a question and count its connections.

    Args:
        databases: aliases; ``None`` is all of them.
        timeout_seconds: an alias that has not answered by then is unhealthy.

    Returns:
        ``{alias: {"status": "healthy" | "unhealthy", "response_time": seconds,
        "connection_count": int | None, "replication_lag": seconds | None, "error": str | None}}``.
        ``response_time`` is the time that the question took on an open connection; opening it is
        not counted. An error shows no password.
    """
    aliases = select_aliases(databases)
    answers: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
    replicas = replica_aliases()
    for alias in aliases:
        # Daemon threads: a server that swallows packets must not keep the process from ending.
        threading.Thread(
            target=lambda alias=alias: answers.put((alias, _check(alias, alias in replicas))),
            name=f"tailrace-health-{alias}",
            daemon=True,
        ).start()
    found = _collect(answers, len(aliases), timeout_seconds)
    late = _unhealthy(f"no answer within {timeout_seconds:g} s", timeout_seconds)
    return {alias: found.get(alias, late) for alias in aliases}


def _collect(
    answers: queue.SimpleQueue[tuple[str, dict[str, Any]]], expected: int, timeout_seconds: float
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + timeout_seconds
    while len(found) < expected:
        try:
            alias, answer = answers.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            break
        found[alias] = answer
    return found


def _check(alias: str, is_replica: bool) -> dict[str, Any]:
    with suppress_recording():
        return _ask(alias, is_replica)


def _ask(alias: str, is_replica: bool) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        connection = connections[alias]
        connection.ensure_connection()
        vendor = vendor_of(connection)
        started = time.perf_counter()
        vendor.value("SELECT 1")
        answered_after = time.perf_counter() - started
        return {
            "status": HEALTHY,
            "response_time": answered_after,
            "connection_count": vendor.connection_count(),
            "replication_lag": get_replication_lag(alias) if is_replica else None,
            "error": None,
        }
    except Error as error:
        return _unhealthy(f"{type(error).__name__}: {error}", time.perf_counter() - started)
    except Exception as error:  # noqa: BLE001 (the thread's only way to report: a wrong option, a missing driver)
        logger.warning("Health check of %r: %s", alias, scrub(repr(error)))
        return _unhealthy(f"{type(error).__name__}: {error}", time.perf_counter() - started)
    finally:
        # The thread ends here, and nobody else can close the connections that are its own.
        connections.close_all()


def _unhealthy(error: str, after_seconds: float) -> dict[str, Any]:
    return {
        "status": UNHEALTHY,
        "response_time": after_seconds,
        "connection_count": None,
        "replication_lag": None,
        "error": scrub(error).strip(),
    }
