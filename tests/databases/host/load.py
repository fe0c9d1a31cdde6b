"""Readers and writers of the host project, as threads that make requests; prints what they saw.

``python -m databases.host.load read|write SECONDS THREADS``
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections import Counter
from typing import Any

import django

django.setup()

from django.core.signals import request_finished, request_started  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from databases.host.shop.models import Order  # noqa: E402

_numbers = itertools.count(int(time.time() * 1000) % 1_000_000_000 + 1000)


def read_request(seen: Counter[str]) -> None:
    """Read a few things; all must be there."""
    rows = Order.objects.order_by("number")
    found = list(rows[:5])
    seen[f"read on {found[0]._state.db}"] += 1
    if rows.count() < 10 or not rows.filter(number=found[0].number).exists():
        seen["wrong"] += 1
    if sum(1 for _ in rows.iterator(chunk_size=3)) < 10:
        seen["wrong"] += 1


def write_request(seen: Counter[str]) -> None:
    """Write in one of four ways, and read it back."""
    number = next(_numbers)
    way = number % 4
    if way == 0:
        Order.objects.create(number=number)
    elif way == 1:
        Order.objects.using("default").create(number=number)
    elif way == 2:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO shop_order (number, note) VALUES (%s, '')", [number])
    else:
        with transaction.atomic():
            Order.objects.bulk_create([Order(number=number)])
    seen["writes"] += 1
    if not Order.objects.filter(number=number).exists():
        seen["stale"] += 1


def worker(kind: str, until: float, seen: Counter[str], errors: list[str]) -> None:
    """Make requests until the time is up."""
    while time.monotonic() < until:
        request_started.send(sender=None, environ={})
        try:
            read_request(seen)
            if kind == "write":
                write_request(seen)
        except Exception as error:  # noqa: BLE001 (what is counted here is the result)
            errors.append(repr(error))
        finally:
            request_finished.send(sender=None)
        seen["requests"] += 1


def main() -> None:
    """Run the threads and print one line of JSON; a progress line every half second before."""
    kind, seconds, threads = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    until = time.monotonic() + seconds
    parts: list[tuple[Counter[str], list[str]]] = [(Counter(), []) for _ in range(threads)]
    running = [
        threading.Thread(target=worker, args=(kind, until, *part), daemon=True) for part in parts
    ]
    for thread in running:
        thread.start()
    while time.monotonic() < until:
        time.sleep(0.25)
        print(json.dumps(total(parts)), flush=True)
    for thread in running:
        thread.join(20)
    result = total(parts)
    result["hanging"] = sum(thread.is_alive() for thread in running)
    print(json.dumps(result), flush=True)


def total(parts: list[tuple[Counter[str], list[str]]]) -> dict[str, Any]:
    """Add up what the threads saw."""
    counts: Counter[str] = sum((part[0].copy() for part in parts), Counter())
    errors = [error for part in parts for error in part[1]]
    return {**counts, "failed": len(errors), "errors": errors[:3]}


if __name__ == "__main__":
    main()
