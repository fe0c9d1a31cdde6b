"""Everything that reading promises, on a real InfluxDB."""

from __future__ import annotations

import pytest
from influx.conftest import MakeBackend, empty_books

from tailrace.backends.influxdb import InfluxDBBackend
from tailrace.backends.testing.reading import ReaderContract


class TestRealServer(ReaderContract):
    reading_examples = 30

    @pytest.fixture(autouse=True)
    def _server(self, real_backend: MakeBackend) -> None:
        self.make = real_backend

    def make_backend(self) -> InfluxDBBackend:
        empty_books()
        return self.make()
