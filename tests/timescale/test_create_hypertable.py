"""The migration operation, on the table of an ordinary model with rows in it."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, connections, migrations, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from tailrace.backends.timescale import CreateHypertable
from tailrace.pipeline.errors import NotSupportedByBackend

from .conftest import NEW_YEAR, ROWS, STEP, Weather

TABLE = "weather_weatherreading"


def key_of(weather: Weather) -> str:
    ((definition,),) = weather.sql(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = 'weather_weatherreading'::regclass AND contype = 'p'"
    )
    return definition


def shape_of(weather: Weather) -> dict[str, Any]:
    """Return everything about the table that a way there and back must leave as it was."""
    queries = {
        "constraints": "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = %s::regclass ORDER BY 1",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s ORDER BY 1",
        "columns": "SELECT column_name, data_type, is_nullable, column_default, is_identity "
        "FROM information_schema.columns WHERE table_name = %s ORDER BY 1",
        "sequence": "SELECT pg_get_serial_sequence(%s, 'id')",
        "triggers": "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass "
        "AND NOT tgisinternal ORDER BY 1",
        "grants": "SELECT grantee, privilege_type FROM information_schema.role_table_grants "
        "WHERE table_name = %s ORDER BY 1, 2",
    }
    shape = {name: weather.sql(query, TABLE) for name, query in queries.items()}
    return {**shape, "rows": weather.sql("SELECT * FROM weather_weatherreading ORDER BY id")}


def apply(alias: str, operation: CreateHypertable, *, backwards: bool = False) -> None:
    state = ProjectState()
    with connections[alias].schema_editor(atomic=True) as editor:
        move = operation.database_backwards if backwards else operation.database_forwards
        move("weather", editor, state, state)


def test_a_table_with_rows_becomes_a_hypertable(weather: Weather) -> None:
    weather.migrate("0001")
    weather.add_rows()
    before = weather.sql("SELECT * FROM weather_weatherreading ORDER BY id")
    weather.migrate("0002")
    assert key_of(weather) == 'PRIMARY KEY (id, "timestamp")'
    assert weather.sql("SELECT * FROM weather_weatherreading ORDER BY id") == before
    ((chunks, left_behind),) = weather.sql(
        "SELECT (SELECT num_chunks FROM timescaledb_information.hypertables "
        "WHERE hypertable_name = 'weather_weatherreading'), "
        "(SELECT count(*) FROM ONLY weather_weatherreading)"
    )
    weeks = ROWS * STEP / timedelta(days=7)
    assert weeks <= chunks <= weeks + 2, "a chunk a week"
    assert left_behind == 0


def test_the_orm_works_on_it(weather: Weather) -> None:
    weather.migrate("0002")
    weather.add_rows()
    weather.migrate()
    station = weather.stations.create(name="east")
    made = weather.readings.create(device=station, timestamp=NEW_YEAR, temperature=1.5)
    assert made.pk == ROWS + 1, "the sequence goes on"
    made.temperature = 2.5
    made.save()
    assert weather.readings.get(pk=made.pk).temperature == 2.5
    assert weather.readings.filter(device__name="north").count() == ROWS // 2
    weather.readings.bulk_create(
        [
            weather.readings.model(device=station, timestamp=NEW_YEAR + timedelta(days=n))
            for n in range(40)
        ]
    )
    assert station.delete()[1] == {"weather.WeatherReading": 41, "weather.Station": 1}
    with pytest.raises(IntegrityError):
        weather.readings.create(device_id=999, timestamp=NEW_YEAR)
    with pytest.raises(IntegrityError):
        weather.readings.create(device_id=1, timestamp=NEW_YEAR, rain_mm=-1)


def test_django_sees_no_change_and_later_migrations_work(weather: Weather) -> None:
    weather.migrate()
    loader = MigrationLoader(connections[weather.alias])
    state = ProjectState.from_apps(apps)
    detector = MigrationAutodetector(loader.project_state(), state)
    assert detector.changes(loader.graph, trim_to_apps={"weather"}) == {}
    names = {row[0] for row in weather.sql("SELECT indexname FROM pg_indexes")}
    assert "weather_note" in names


def test_backwards_gives_the_plain_table_back_as_it_was(weather: Weather) -> None:
    weather.migrate("0001")
    weather.add_rows()
    weather.sql(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    )
    weather.sql(
        "CREATE TRIGGER host_trigger BEFORE INSERT ON weather_weatherreading "
        "FOR EACH ROW EXECUTE FUNCTION nothing()"
    )
    weather.sql("GRANT SELECT ON weather_weatherreading TO PUBLIC")
    weather.sql("GRANT INSERT ON weather_weatherreading TO pg_monitor WITH GRANT OPTION")
    before = shape_of(weather)
    weather.migrate("0002")
    assert shape_of(weather) != before
    weather.migrate("0001")
    assert shape_of(weather) == before
    ((found,),) = weather.sql("SELECT count(*) FROM timescaledb_information.hypertables")
    assert found == 0
    weather.sql("INSERT INTO weather_weatherreading (device_id, timestamp) VALUES (1, now())")
    assert weather.sql("SELECT max(id) FROM weather_weatherreading") == [(ROWS + 1,)]
    weather.migrate()
    assert key_of(weather) == 'PRIMARY KEY (id, "timestamp")'


def test_backwards_reads_compressed_chunks(weather: Weather) -> None:
    weather.migrate("0001")
    weather.add_rows()
    before = shape_of(weather)
    weather.migrate("0002")
    weather.sql("ALTER TABLE weather_weatherreading SET (timescaledb.compress)")
    weather.sql("SELECT compress_chunk(c) FROM show_chunks('weather_weatherreading') AS c")
    weather.migrate("0001")
    assert shape_of(weather) == before


def test_backwards_refuses_while_a_continuous_aggregate_depends_on_it(weather: Weather) -> None:
    weather.migrate("0002")
    weather.sql(
        "CREATE MATERIALIZED VIEW by_hour WITH (timescaledb.continuous) AS "
        "SELECT time_bucket('1 hour', timestamp) AS bucket, count(*) "
        "FROM weather_weatherreading GROUP BY 1 WITH NO DATA"
    )
    with pytest.raises(NotSupportedByBackend, match=r"public\.by_hour"):
        weather.migrate("0001")
    weather.sql("DROP MATERIALIZED VIEW by_hour")
    weather.migrate("0001")


def test_backwards_refuses_while_a_view_depends_on_it(weather: Weather) -> None:
    weather.migrate("0002")
    weather.add_rows(5)
    weather.sql("CREATE VIEW warm AS SELECT * FROM weather_weatherreading WHERE temperature > 1")
    with pytest.raises(NotSupportedByBackend, match="warm"):
        weather.migrate("0001")
    assert weather.readings.model._meta.db_table == TABLE
    assert weather.sql("SELECT count(*) FROM weather_weatherreading") == [(5,)]


def test_twice_is_once(weather: Weather) -> None:
    weather.migrate("0002")
    apply(weather.alias, CreateHypertable(TABLE))
    with pytest.raises(NotSupportedByBackend, match="is a hypertable already"):
        apply(weather.alias, CreateHypertable(TABLE, if_not_exists=False))


def test_the_width_of_a_chunk(weather: Weather) -> None:
    for given, found in (("1 day", "1 day"), (timedelta(hours=6), "6 hours"), ("1 month", "1 mon")):
        weather.migrate("0001")
        apply(weather.alias, CreateHypertable(TABLE, chunk_time_interval=given))
        rows = weather.sql(
            "SELECT time_interval = %s::interval FROM timescaledb_information.dimensions "
            "WHERE hypertable_name = 'weather_weatherreading'",
            found.replace("1 mon", "30 days"),
        )
        assert rows == [(True,)], given
        apply(weather.alias, CreateHypertable(TABLE), backwards=True)


def test_incoming_foreign_keys_are_named(weather: Weather) -> None:
    weather.migrate("0001")
    weather.sql(
        "CREATE TABLE alarm (reading bigint CONSTRAINT points "
        "REFERENCES weather_weatherreading (id))"
    )
    with pytest.raises(NotSupportedByBackend, match=r"points of alarm.*db_constraint=False"):
        weather.migrate("0002")
    assert key_of(weather) == "PRIMARY KEY (id)", "nothing has changed"


def test_unique_constraints_without_the_time_are_named(weather: Weather) -> None:
    weather.migrate("0001")
    weather.sql("ALTER TABLE weather_weatherreading ADD CONSTRAINT one_each UNIQUE (device_id)")
    with pytest.raises(NotSupportedByBackend, match="one_each"):
        weather.migrate("0002")


def test_unique_constraints_with_the_time_stay(weather: Weather) -> None:
    weather.migrate("0001")
    weather.sql(
        "ALTER TABLE weather_weatherreading ADD CONSTRAINT one_each UNIQUE (device_id, timestamp)"
    )
    weather.add_rows(10)
    weather.migrate("0002")
    with pytest.raises(IntegrityError):
        weather.add_rows(10)


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("no_such_table", "timestamp", "there is no table"),
        (TABLE, "no_such_column", "does not exist"),
        (TABLE, "rain_mm", "is of type integer"),
        ("warm", "timestamp", "no ordinary table"),
    ],
)
def test_what_cannot_be(weather: Weather, table: str, column: str, words: str) -> None:
    weather.migrate("0001")
    weather.sql("CREATE VIEW warm AS SELECT * FROM weather_weatherreading")
    with pytest.raises(NotSupportedByBackend, match=words):
        apply(weather.alias, CreateHypertable(table, column))


def test_rows_without_a_time_are_named(weather: Weather) -> None:
    weather.sql("CREATE TABLE loose (id int PRIMARY KEY, timestamp timestamptz)")
    weather.sql("INSERT INTO loose VALUES (1, NULL)")
    with pytest.raises(NotSupportedByBackend, match="rows without 'timestamp'"):
        apply(weather.alias, CreateHypertable("loose"))


HOSTILE = (
    "x'; DROP TABLE weather_station; --",
    'x"; DROP TABLE weather_station; --',
    "%s",
    "%(table)s",
    "{table}",
    "weather_station; DROP TABLE weather_station",
    "1=1",
    "Größe 数据",
    "pg_sleep(60)",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_run_nothing(weather: Weather, name: str) -> None:
    weather.migrate("0001")
    for operation in (CreateHypertable(name), CreateHypertable(TABLE, name)):
        with pytest.raises(NotSupportedByBackend):
            apply(weather.alias, operation)
    with pytest.raises(ValueError, match="interval"):
        CreateHypertable(TABLE, chunk_time_interval=name)
    assert weather.sql("SELECT count(*) FROM weather_station") == [(0,)]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_of_a_hostile_name_is_a_table(weather: Weather, name: str) -> None:
    weather.migrate("0001")
    quoted = connections[weather.alias].ops.quote_name(name.replace("%", "%%"))
    column = name.replace('"', "'")
    time = connections[weather.alias].ops.quote_name(column.replace("%", "%%"))
    table = quoted if '"' not in name else '"plain"'
    plain = name if '"' not in name else "plain"
    with connections[weather.alias].cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, {time} date)", [])
        cursor.execute(f"INSERT INTO {table} VALUES (1, '2024-01-01')", [])
    operation = CreateHypertable(plain, column)
    apply(weather.alias, operation)
    apply(weather.alias, operation, backwards=True)
    with connections[weather.alias].cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}", [])
        assert cursor.fetchone() == (1,)
    assert weather.sql("SELECT count(*) FROM weather_station") == [(0,)]


def test_another_database_is_told_so(tmp_path: Any, settings: Any, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock():
        assert connections["default"].vendor == "sqlite"
        with pytest.raises(NotSupportedByBackend, match="extension of PostgreSQL"):
            CreateHypertable(TABLE).database_forwards(
                "weather",
                type("Editor", (), {"connection": connections["default"]}),
                ProjectState(),
                ProjectState(),
            )


class Nowhere:
    """A router that lets the app be nowhere."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return app_label != "weather"


def test_routers_are_asked(weather: Weather, settings: Any) -> None:
    weather.migrate("0001")
    settings.DATABASE_ROUTERS = [Nowhere()]
    apply(weather.alias, CreateHypertable(TABLE))
    assert key_of(weather) == "PRIMARY KEY (id)"


def test_rows_and_later_changes_in_one_migration(weather: Weather) -> None:
    """Foreign keys that are checked at the end do not stand in the way."""
    weather.migrate("0001")
    migration = type("Migration", (migrations.Migration,), {})("0009", "weather")
    migration.operations = [
        migrations.RunPython(lambda apps, editor: weather.add_rows()),
        CreateHypertable(TABLE),
        migrations.AddField("weatherreading", "more", models.IntegerField(null=True)),
        migrations.AddIndex("weatherreading", models.Index(fields=["more"], name="more_index")),
    ]
    state = MigrationLoader(connections[weather.alias]).project_state(("weather", "0001_initial"))
    with connections[weather.alias].schema_editor(atomic=True) as editor:
        migration.apply(state, editor)
    assert weather.sql("SELECT count(*) FROM weather_weatherreading") == [(ROWS,)]


def test_sqlmigrate_says_that_it_is_no_plain_sql(weather: Weather) -> None:
    out = io.StringIO()
    call_command("sqlmigrate", "weather", "0002", database=weather.alias, stdout=out)
    assert "THIS OPERATION CANNOT BE WRITTEN AS SQL" in out.getvalue()
