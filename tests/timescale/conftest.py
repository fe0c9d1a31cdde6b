"""An alias on a TimescaleDB, and a host's app whose tables become hypertables there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from postgres_alias import postgres_alias

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 300
STEP = timedelta(hours=2)


class Weather:
    """The app ``weather`` on an alias."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def migrate(self, to: str = "0003") -> None:
        call_command("migrate", "weather", to, database=self.alias, verbosity=0)

    @property
    def readings(self) -> Any:
        from timescale.weather.models import WeatherReading

        return WeatherReading.objects.using(self.alias)

    @property
    def stations(self) -> Any:
        from timescale.weather.models import Station

        return Station.objects.using(self.alias)

    def add_rows(self, count: int = ROWS) -> None:
        """Add readings of two stations, one every two hours, by SQL: it works in any state."""
        self.sql("INSERT INTO weather_station (name) VALUES ('north'), ('south')")
        self.sql(
            "INSERT INTO weather_weatherreading "
            "(device_id, timestamp, temperature, rain_mm, price) "
            "SELECT 1 + i %% 2, %s + i * interval '2 hours', i * 0.25, i %% 7, i / 8.0 "
            "FROM generate_series(0, %s - 1) AS i",
            NEW_YEAR,
            count,
        )

    def sql(self, query: Any, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run SQL, and return what it gives."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def alias(timescale_database: Callable[[str], str], django_db_blocker: Any) -> Iterator[str]:
    """An alias with Tailrace's tables."""
    with django_db_blocker.unblock(), postgres_alias(timescale_database("weather")) as name:
        yield name


@pytest.fixture
def weather(alias: str, settings: Any) -> Weather:
    """The app, installed, with no migration applied."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "timescale.weather"]
    return Weather(alias)
