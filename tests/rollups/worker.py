"""Processes to kill: each is forked from one that has Django ready, and nothing open.

Run as ``python -m rollups.worker``, it reads orders, a line of JSON each, has a new process carry
each one out, and says how that process ended.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
REFRESHED = NOON + timedelta(days=2)
"""How far the first refresh comes."""
LATE = "late-0"
"""The position behind the batch of late events."""


def main() -> None:
    """Carry out orders until there are no more."""
    import django

    django.setup()
    from tailrace.pipeline.recording import configure

    configure(None)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            _carry_out(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _carry_out(order: dict[str, str]) -> None:
    from django.conf import settings

    from tailrace.pipeline import faults

    settings.DATABASES["default"]["NAME"] = order["database"]
    faults._armed = order.get("fault", "")
    status = 1
    try:
        {"prepare": _prepare, "work": _work}[order["do"]]()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may go on in the fork
        traceback.print_exc()
    finally:
        os._exit(status)


def _prepare() -> None:
    """Make the tables, four days of events, and two rollups of the first two days."""
    from django.core.management import call_command

    from tailrace.pipeline.checkpoint import Checkpoint

    call_command("migrate", "tailrace", verbosity=0)
    backend = _backend(("kept", "gone"))
    backend.create_checkpoint(Checkpoint(0))
    _drain(backend, [NOON + timedelta(hours=hour) for hour in range(96)], "first-0")
    for name in ("kept", "gone"):
        backend.refresh_rollup(name, None, REFRESHED)


def _work() -> None:
    """Store late events, unless they are stored; refresh; remove what is declared no more."""
    from django.apps import apps

    backend = _backend(("kept",))
    if backend.read_checkpoint(0).position != LATE:
        _drain(backend, [NOON + timedelta(hours=hour, minutes=7) for hour in (1, 2, 30)], LATE)
    backend.refresh_rollup("kept", None, NOON + timedelta(days=5))
    # As if the last one had been a minute ago.
    apps.get_model("tailrace", "Job")._base_manager.all().delete()
    backend.refresh_due()


def _backend(names: tuple[str, ...]) -> Any:
    from django.db import connection

    from tailrace.backends.django_db import DjangoDBBackend
    from tailrace.backends.rollups.declared import register_rollup

    backend_class: type[DjangoDBBackend] = DjangoDBBackend
    if connection.vendor == "postgresql":
        from tailrace.backends.postgres import PostgresBackend

        backend_class = PostgresBackend
    for name in names:
        register_rollup(
            name, "m", fields=("v",), functions=("sum",), widths=("1h", "1d"), end_offset=None
        )
    backend = backend_class("probe", {"ALIAS": "default"})
    backend.setup()
    return backend


def _drain(backend: Any, times: list[datetime], position: str) -> None:
    from tailrace.pipeline.checkpoint import Checkpoint
    from tailrace.pipeline.event import Event, ns_from_datetime

    events = [
        Event("m", ns_from_datetime(at), {}, {"v": number}, id=uuid.uuid4().bytes)
        for number, at in enumerate(times)
    ]
    with backend.transaction(0) as tx:
        tx.write(events)
        tx.advance(Checkpoint(0, position, "e", tx.checkpoint.created_ns), [])


if __name__ == "__main__":
    main()
