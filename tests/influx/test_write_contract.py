"""What every backend promises about writing, on the strict fake and on a real InfluxDB."""

from __future__ import annotations

from typing import Any

import pytest
from influx.conftest import MakeBackend, books_count, empty_books
from influx.fake_server import FakeInflux
from influx.servers import InfluxAddress
from influx.stored import events_in, events_of

from tailrace.backends.influxdb import InfluxDBBackend
from tailrace.backends.testing import WriterContract
from tailrace.backends.testing.frames import make_event
from tailrace.pipeline.event import Event


def _too_long() -> Event:
    return make_event(tags={f"tag {number}": "x" * 700 for number in range(100)})


class TestStrictServer(WriterContract):
    examples = 20

    @pytest.fixture(autouse=True)
    def _server(self, fake_influx: FakeInflux, fake_backend: MakeBackend) -> None:
        self.fake, self.make = fake_influx, fake_backend

    def make_backend(self) -> InfluxDBBackend:
        self.fake.empty()
        empty_books()
        return self.make()

    def another(self, backend: Any) -> InfluxDBBackend:
        return self.make()

    def stored_events(self, backend: Any) -> list[dict[str, Any]]:
        return events_of(self.fake.points.values())

    def count_dead_letters(self, backend: Any) -> int:
        return books_count("DeadLetter")

    def refused_event(self) -> Event:
        return _too_long()


class TestRealServer(WriterContract):
    examples = 5

    @pytest.fixture(autouse=True)
    def _server(self, influx: InfluxAddress, real_backend: MakeBackend) -> None:
        self.influx, self.make = influx, real_backend

    def make_backend(self) -> InfluxDBBackend:
        empty_books()
        return self.make()

    def another(self, backend: Any) -> InfluxDBBackend:
        return self.make(BUCKET=backend.bucket)

    def stored_events(self, backend: Any) -> list[dict[str, Any]]:
        return events_in(self.influx, backend.bucket)

    def count_dead_letters(self, backend: Any) -> int:
        return books_count("DeadLetter")

    def refused_event(self) -> Event:
        return _too_long()
