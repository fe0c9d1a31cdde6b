"""What TimescaleDBBackend does beside storing: hypertables, policies, sizes, retention."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from postgres_alias import postgres_alias
from timescale.weather.models import WeatherReading

from tailrace.backends.private_connection import close_private_connections
from tailrace.backends.timescale import TimescaleDBBackend
from tailrace.backends.timescaledb import probe
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.errors import ConfigurationError, NotSupportedByBackend
from tailrace.pipeline.event import Event, ns_from_datetime

from .conftest import NEW_YEAR, ROWS, Weather
from .test_create_hypertable import HOSTILE

DAY = timedelta(days=1)


class HereRouter:
    """Sends the app to the alias under test."""

    alias = ""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.alias if model._meta.app_label == "weather" else None

    db_for_write = db_for_read


@pytest.fixture
def backend(weather: Weather, settings: Any) -> Iterator[TimescaleDBBackend]:
    """A backend, with readings in a hypertable."""
    HereRouter.alias = weather.alias
    settings.DATABASE_ROUTERS = [HereRouter()]
    weather.migrate("0002")
    weather.add_rows()
    weather.migrate()
    made = TimescaleDBBackend("default", {"ALIAS": weather.alias})
    made.setup()
    yield made
    close_private_connections(weather.alias)


def jobs(weather: Weather) -> dict[str, Any]:
    return dict(
        weather.sql(
            "SELECT proc_name, config->>'drop_after' FROM timescaledb_information.jobs "
            "WHERE hypertable_name = 'weather_weatherreading'"
        )
    )


def store(backend: TimescaleDBBackend, *times: datetime) -> None:
    backend.create_checkpoint(Checkpoint(0))
    with backend.transaction(0) as tx:
        tx.write(
            [
                Event("a", ns_from_datetime(time), {}, {"v": number}, id=bytes([number]) * 16)
                for number, time in enumerate(times)
            ]
        )
        tx.advance(tx.checkpoint, [])


class TestPolicies:
    def test_retention_really_drops_chunks(
        self, backend: TimescaleDBBackend, weather: Weather
    ) -> None:
        job = backend.create_retention_policy(WeatherReading)
        assert jobs(weather)["policy_retention"] == "90 days"
        now = datetime.now(UTC)
        weather.readings.create(device_id=1, timestamp=now, temperature=7)
        weather.sql("CALL run_job(%s)", job)
        assert list(weather.readings.values_list("temperature", flat=True)) == [7]

    def test_a_policy_is_replaced_and_removed(
        self, backend: TimescaleDBBackend, weather: Weather
    ) -> None:
        backend.create_retention_policy(WeatherReading, "90 days")
        backend.create_retention_policy(WeatherReading, drop_after=timedelta(hours=36))
        assert jobs(weather)["policy_retention"] == "1 day 12:00:00"
        assert backend.remove_retention_policy(WeatherReading) is True
        assert backend.remove_retention_policy(WeatherReading) is False
        assert jobs(weather) == {}

    def test_compression_keeps_the_answers(
        self, backend: TimescaleDBBackend, weather: Weather
    ) -> None:
        before = backend.query_readings(WeatherReading)
        job = backend.create_compression_policy(WeatherReading, "7 days")
        backend.create_compression_policy(WeatherReading, "7 days", segment_by=["device_id"])
        job = backend.create_compression_policy(WeatherReading, "8 days", segment_by=["device_id"])
        weather.sql("CALL run_job(%s)", job)
        info = backend.hypertable_info(WeatherReading)
        assert info is not None
        assert info["compression"]["enabled"] is True
        assert info["compression"]["compressed_chunks"] == info["num_chunks"] > 0
        assert info["compression"]["before_bytes"] > 0
        assert info["compression"]["after_bytes"] > 0
        assert backend.query_readings(WeatherReading) == before
        assert backend.remove_compression_policy(WeatherReading) is True
        assert backend.remove_compression_policy(WeatherReading) is False

    def test_info(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        info = backend.hypertable_info(WeatherReading)
        assert info is not None
        assert info["hypertable_name"] == "weather_weatherreading"
        assert info["num_chunks"] == len(
            weather.sql("SELECT show_chunks('weather_weatherreading')")
        )
        ((size,),) = weather.sql("SELECT hypertable_size('weather_weatherreading')")
        assert info["total_bytes"] == size
        assert info["total_size"] == weather.sql("SELECT pg_size_pretty(%s::bigint)", size)[0][0]
        assert info["table_bytes"] + info["index_bytes"] + info["toast_bytes"] == size
        assert info["compression"] == {
            "enabled": False,
            "compressed_chunks": 0,
            "before_bytes": None,
            "after_bytes": None,
        }

    def test_a_plain_table_has_no_info_and_no_policies(
        self, backend: TimescaleDBBackend, weather: Weather
    ) -> None:
        weather.migrate("0001")
        assert backend.hypertable_info(WeatherReading) is None
        for call in (
            backend.create_retention_policy,
            backend.remove_retention_policy,
            backend.create_compression_policy,
            backend.remove_compression_policy,
        ):
            with pytest.raises(NotSupportedByBackend, match="CreateHypertable"):
                call(WeatherReading)

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_hostile_arguments_run_nothing(
        self, backend: TimescaleDBBackend, weather: Weather, hostile: str
    ) -> None:
        for call in (
            lambda: backend.create_retention_policy(WeatherReading, hostile),
            lambda: backend.create_compression_policy(WeatherReading, hostile),
            lambda: backend.create_compression_policy(WeatherReading, segment_by=[hostile]),
            lambda: backend.create_retention_policy(hostile),  # type: ignore[arg-type]
            lambda: backend.remove_retention_policy(hostile),  # type: ignore[arg-type]
            lambda: backend.hypertable_info(hostile),  # type: ignore[arg-type]
        ):
            with pytest.raises(ValueError):
                call()
        assert jobs(weather) == {}
        assert weather.readings.count() == ROWS
        assert weather.stations.count() == 2


class TestEvents:
    def test_empty_tables_become_hypertables_by_themselves(
        self, backend: TimescaleDBBackend, weather: Weather
    ) -> None:
        store(backend, NEW_YEAR, NEW_YEAR + DAY, NEW_YEAR + 3 * DAY)
        assert weather.sql(
            "SELECT num_chunks FROM timescaledb_information.hypertables "
            "WHERE hypertable_name = 'tailrace_event'"
        ) == [(3,)]
        assert backend.ensure_hypertables() == []
        assert len(backend.query("a")) == 3

    def test_a_table_with_rows_waits_for_the_command(
        self, weather: Weather, caplog: pytest.LogCaptureFixture, backend: TimescaleDBBackend
    ) -> None:
        weather.sql(
            "INSERT INTO tailrace_event (uid, measurement, time, tags, fields, trace_id) "
            "VALUES (gen_random_uuid(), 'old', %s, '{}', '{}', '')",
            NEW_YEAR,
        )
        with caplog.at_level(logging.WARNING, "tailrace"):
            store(backend, NEW_YEAR)
        assert "manage.py tailrace_partition" in caplog.text
        assert backend.partition_existing() is True
        assert backend.partition_existing() is False
        assert len(backend.query("old")) == 1
        store(backend, NEW_YEAR + DAY)
        assert len(backend.query("a")) == 2

    def test_retention_drops_whole_chunks(
        self, backend: TimescaleDBBackend, weather: Weather
    ) -> None:
        store(backend, *(NEW_YEAR + n * DAY for n in range(5)))
        dropped = backend.drop_partitions(NEW_YEAR + 3 * DAY + timedelta(hours=1))
        assert len(dropped) == 3
        assert all(each.size_bytes > 0 for each in dropped)
        assert [row["time"] for row in backend.query("a", order="time")] == [
            NEW_YEAR + 3 * DAY,
            NEW_YEAR + 4 * DAY,
        ]
        assert backend.drop_partitions(NEW_YEAR) == []
        with pytest.raises(NotSupportedByBackend, match="PostgresBackend"):
            backend.drop_partitions(NEW_YEAR, keep=True)

    def test_maintain_says_what_it_made(self, backend: TimescaleDBBackend) -> None:
        assert "tailrace_event" in backend.maintain()
        assert "made hypertables: none" in backend.maintain()

    def test_the_width_of_a_chunk_is_an_option(self, weather: Weather) -> None:
        options = {"ALIAS": weather.alias, "CHUNK_TIME_INTERVAL": "6 hours"}
        backend = TimescaleDBBackend("default", options)
        store(backend, NEW_YEAR)
        assert weather.sql(
            "SELECT time_interval FROM timescaledb_information.dimensions "
            "WHERE hypertable_name = 'tailrace_event'"
        ) == [(timedelta(hours=6),)]
        with pytest.raises(ConfigurationError, match="CHUNK_TIME_INTERVAL"):
            TimescaleDBBackend("default", {"CHUNK_TIME_INTERVAL": "often"})


class TestCapabilities:
    def test_all_there(self, backend: TimescaleDBBackend) -> None:
        found = backend.capabilities()
        assert found.has_hypertables
        assert found.has_policies
        assert found.problem is None
        assert backend.check("tailrace.W000") == []

    def test_without_the_extension_it_is_a_postgres_backend(
        self,
        postgres_database: Callable[[str], str],
        settings: Any,
        django_db_blocker: Any,
    ) -> None:
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "timescale.weather"]
        with django_db_blocker.unblock(), postgres_alias(postgres_database("plain")) as alias:
            backend = TimescaleDBBackend("default", {"ALIAS": alias, "PARTITION": "day"})
            backend.setup()
            store(backend, datetime.now(UTC))
            assert len(backend.query("a")) == 1
            weather = Weather(alias)
            assert weather.sql(
                "SELECT relkind::text FROM pg_class WHERE relname = 'tailrace_event'"
            ) == [("p",)]
            (message,) = backend.check("tailrace.W000")
            assert message.id == "tailrace.W000"
            assert "timescaledb" in str(message.hint)
            HereRouter.alias = alias
            settings.DATABASE_ROUTERS = [HereRouter()]
            weather.migrate("0001")
            for call in (
                lambda: backend.hypertable_info(WeatherReading),
                lambda: backend.create_retention_policy(WeatherReading),
                lambda: weather.migrate("0002"),
            ):
                with pytest.raises(NotSupportedByBackend, match="extension timescaledb"):
                    call()


class TestApacheLicence:
    """The server has all features; only its answer to what licence it has is another one.

    The real thing is a full server of that edition in ``TAILRACE_TEST_TIMESCALE_DSN``.
    """

    @pytest.fixture(autouse=True)
    def _apache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def probe_apache(connection: Any) -> Any:
            return dataclasses.replace(probe.probe(connection), license="apache")

        for module in ("timescale", "timescaledb.policies", "timescaledb.continuous"):
            monkeypatch.setattr(f"tailrace.backends.{module}.probe", probe_apache)

    def test_hypertables_work(self, backend: TimescaleDBBackend, weather: Weather) -> None:
        store(backend, NEW_YEAR, NEW_YEAR + DAY)
        assert weather.sql("SELECT count(*) FROM show_chunks('tailrace_event')") == [(2,)]
        assert len(backend.drop_partitions(NEW_YEAR + DAY)) == 1
        info = backend.hypertable_info(WeatherReading)
        assert info is not None
        assert info["num_chunks"] > 0

    def test_the_rest_says_what_to_do(self, backend: TimescaleDBBackend) -> None:
        for call in (
            lambda: backend.create_retention_policy(WeatherReading),
            lambda: backend.create_compression_policy(WeatherReading),
            lambda: backend.continuous_aggregate("x", WeatherReading, "temperature"),
        ):
            with pytest.raises(NotSupportedByBackend, match="tailrace_retention"):
                call()
        (message,) = backend.check("tailrace.W000")
        assert "policies and continuous aggregates raise" in message.msg
        assert "timescaledb.license" in str(message.hint)
