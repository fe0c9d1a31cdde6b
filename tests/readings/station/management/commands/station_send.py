"""A host's own code: it hands over readings, each with a number of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand

from readings.station.models import MeterReading, WeatherStationReading
from tailrace.django_integration.models import Device
from tailrace.pipeline import flush, record, store_reading

START = datetime(2024, 5, 15, 12, tzinfo=UTC)


class Command(BaseCommand):
    """``station_send first count [--bad]``."""

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("first", type=int)
        parser.add_argument("count", type=int)
        parser.add_argument("--bad", action="store_true", help="Every hundredth has no device.")

    def handle(self, *args: Any, **options: Any) -> None:
        devices = [Device.objects.get_or_create(identifier=f"ws-{n}")[0] for n in range(5)]
        for number in range(options["first"], options["first"] + options["count"]):
            device = devices[number % 5].pk
            moment = START + timedelta(seconds=number)
            data = {"temperature": number / 10, "visitors": number}
            where = 999_999 if options["bad"] and number % 100 == 0 else device
            store_reading(WeatherStationReading, where, moment, data)
            if number % 10 == 0:
                store_reading(MeterReading, device, moment, {"watts": number})
            record("fault.test", fields={"n": number})
        assert flush(20)
