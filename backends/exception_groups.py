"""First seen, last seen and count of each kind of exception.

Counts are added in the transaction that stores the events, so they are as exact as the rows,
and they stay when retention drops the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.apps import apps
from django.db.models import Case, F, TextField, Value, When

from tailrace.pipeline.event import Event

MEASUREMENT = "exception"


class _Seen(NamedTuple):
    first: datetime
    last: datetime
    amount: int
    latest: Event


def update_exception_groups(using: str, events: Sequence[Event]) -> None:
    """Count exceptions, in the transaction that is open on the alias ``using``."""
    seen = _by_fingerprint(events)
    if not seen:
        return
    groups = apps.get_model("tailrace", "ExceptionGroup").objects.using(using)
    # In one order, so that two drainers never wait for each other.
    prints = sorted(seen)
    groups.bulk_create(
        [_new_group(groups.model, name, seen[name]) for name in prints], ignore_conflicts=True
    )
    for name in prints:
        first, last, amount, latest = seen[name]
        groups.filter(fingerprint=name).update(
            count=F("count") + amount,
            first_seen=Case(When(first_seen__gt=first, then=Value(first)), default="first_seen"),
            message=Case(
                # Django takes a str for a CharField, which does not mix with our TextField.
                When(last_seen__lte=last, then=Value(_text(latest, "message"), TextField())),
                default="message",
            ),
            last_seen=Case(When(last_seen__lt=last, then=Value(last)), default="last_seen"),
        )


def _by_fingerprint(events: Sequence[Event]) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for event in events:
        if event.measurement != MEASUREMENT:
            continue
        name = _text(event, "fingerprint")[:64]
        if not name:
            continue
        time = event.time
        before = seen.get(name)
        if before is None:
            seen[name] = _Seen(time, time, 1, event)
        else:
            latest = event if time >= before.last else before.latest
            seen[name] = _Seen(
                min(before.first, time), max(before.last, time), before.amount + 1, latest
            )
    return seen


def _new_group(model: type, name: str, seen: _Seen) -> object:
    return model(
        fingerprint=name,
        type=seen.latest.tags.get("type", "")[:200],
        message=_text(seen.latest, "message"),
        location=_text(seen.latest, "location")[:500],
        first_seen=seen.first,
        last_seen=seen.last,
        count=0,
    )


def _text(event: Event, field: str) -> str:
    value = event.fields.get(field)
    return value if isinstance(value, str) else ""
