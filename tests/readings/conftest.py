"""Fixtures: the models' tables on each engine, and the real pipeline in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from postgres_alias import postgres_alias

from readings.station import models as station
from tailrace.backends import written_models
from tailrace.backends.base import BaseBackend
from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.postgres import PostgresBackend
from tailrace.django_integration.models import DeadLetter, Device, Event, RawMessage
from tailrace.pipeline import flush, recording
from tailrace.pipeline import readings as pipeline_readings
from tailrace.pipeline.config import Config
from tailrace.pipeline.runtime import Runtime

READINGS = (station.WeatherStationReading, station.MeterReading)
MODELS = (*READINGS, station.Page, station.Visit)
_numbers = itertools.count(1)


class StationRouter:
    """Sends the models to the alias that is tested."""

    alias = "default"

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return type(self).alias if model in (*MODELS, Device, DeadLetter, Event) else None

    db_for_write = db_for_read


class Storage:
    """A backend on an alias that has the models' tables."""

    def __init__(self, backend: BaseBackend, alias: str) -> None:
        self.backend = backend
        self.alias = alias
        self.runtime: Runtime | None = None

    def device(self, **values: Any) -> Any:
        return Device.objects.create(identifier=f"d-{next(_numbers)}", **values)

    def empty(self) -> None:
        """Forget rows; checkpoints go with the Redis that they belong to."""
        from django.apps import apps

        for model in (*reversed(MODELS), *apps.get_app_config("tailrace").get_models()):
            if model is not RawMessage:
                model._base_manager.using(self.alias).all().delete()

    def settle(self) -> None:
        """Have everything stored that was recorded so far."""
        assert self.runtime is not None
        assert flush(10)
        for shard in self.runtime.shards:
            self.runtime.drain("default", shard)
        assert self.runtime.balance("default").is_balanced, self.runtime.balance("default").line()

    def reasons(self) -> list[str]:
        return list(DeadLetter.objects.order_by("id").values_list("reason", flat=True))


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    """The models' app is not installed in this process, so they have to be registered."""
    for model in READINGS:
        written_models.register_model(model)
    pipeline_readings.install(written_models.target_of)
    yield
    for model in READINGS:
        written_models.unregister_model(model)


ENGINES = {
    "sqlite": DjangoDBBackend,
    "postgres_orm": DjangoDBBackend,
    "postgres_copy": PostgresBackend,
}


@pytest.fixture(scope="module", params=list(ENGINES))
def module_storage(
    request: pytest.FixtureRequest, tmp_path_factory: Any, django_db_blocker: Any
) -> Iterator[Storage]:
    with django_db_blocker.unblock(), ExitStack() as stack:
        if request.param == "sqlite":
            alias = stack.enter_context(sqlite_alias(tmp_path_factory.mktemp("readings")))
        else:
            server = request.getfixturevalue("postgres_primary")
            name = f"readings_{next(_numbers)}"
            server.create_database(name)
            alias = stack.enter_context(postgres_alias(server.url(name)))
        stack.enter_context(override_settings(DATABASE_ROUTERS=[StationRouter()]))
        StationRouter.alias = alias
        with connections[alias].schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
        yield Storage(ENGINES[request.param]("default", {"ALIAS": alias}), alias)
        StationRouter.alias = "default"
        connections[alias].close()


@pytest.fixture
def storage(module_storage: Storage, redis_url: str, tmp_path: Path) -> Iterator[Storage]:
    """A backend with nothing stored, and a pipeline that ends in it."""
    module_storage.empty()
    config = Config(
        redis_url=redis_url,
        spool_dir=str(tmp_path),
        shards=1,
        flush_interval_seconds=60,
        redis_timeout_seconds=2,
    )
    recording.configure(config)
    module_storage.runtime = Runtime(config, lambda alias: module_storage.backend)
    yield module_storage
    recording.configure(None)
    module_storage.runtime.close()


def sqlite_alias(directory: Path) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def added() -> Iterator[str]:
        from django.conf import settings
        from django.core.management import call_command

        from tailrace.backends.private_connection import close_private_connections

        alias = f"readings_sqlite_{next(_numbers)}"
        settings.DATABASES[alias] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(directory / "readings.sqlite3"),
            "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"},
        }
        connections.configure_settings(settings.DATABASES)
        try:
            call_command("migrate", "tailrace", database=alias, verbosity=0)
            yield alias
        finally:
            close_private_connections()
            connections[alias].close()
            del connections[alias]
            del settings.DATABASES[alias]

    return added()


@pytest.fixture
def recorded() -> Callable[[], list[Any]]:
    """Return what is in the buffer, without sending it."""

    def take() -> list[Any]:
        assert recording._process is not None
        return recording._process.buffer.take(1_000)

    return take
