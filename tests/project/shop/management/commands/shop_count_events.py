"""Count what Tailrace has stored, without going through Tailrace."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand

from tailrace.django_integration.models import Event
from tailrace.pipeline import suppress_recording


class Command(BaseCommand):
    """``manage.py shop_count_events``: rows in the table of events, as JSON."""

    help = "Count the rows of Tailrace's table of events, as JSON."

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run unrecorded, system checks included: who counts must not add to the sum."""
        with suppress_recording():
            return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the counts."""
        counts = {
            "rows": Event.objects.count(),
            "requests": Event.objects.filter(measurement="request").count(),
            "checkouts": Event.objects.filter(measurement="checkout").count(),
        }
        self.stdout.write(json.dumps(counts))
