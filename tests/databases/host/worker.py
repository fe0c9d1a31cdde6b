"""A Celery app of the host project: ``celery -A databases.host.worker worker``."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from celery import Celery
from django.db import connections

app = Celery("host")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.task(name="host.count_orders")
def count_orders() -> None:
    """Query twice, and write down who served it and what the pool has done so far."""
    from databases.host.shop.models import Order

    Order.objects.create(number=Order.objects.count() + threading.get_native_id() * 10_000)
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        session = cursor.fetchone()[0]
    stats = connections["default"].pool.get_stats()
    line = json.dumps({"process": os.getpid(), "session": session, **stats})
    with (Path(os.environ["HOST_DATA_DIR"]) / "tasks").open("a") as seen:
        seen.write(line + "\n")
