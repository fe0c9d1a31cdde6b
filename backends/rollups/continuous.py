"""``continuous_aggregate()`` where the database has none of its own: a rollup with one level."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import router

from tailrace.backends.base import BaseBackend
from tailrace.backends.django_errors import translated_errors
from tailrace.backends.model_tables import missing_backend
from tailrace.backends.private_connection import private_connection
from tailrace.backends.reading.arguments import clean_text
from tailrace.backends.reading.columns import DEVICE
from tailrace.backends.reading.query import AggregateQuery
from tailrace.pipeline.errors import BackendMisconfigured
from tailrace.pipeline.interval import Interval
from tailrace.pipeline.rollup import Rollup

from .declared import declare, rollups_of_backend, undeclare
from .invalidation import has_tables

NAME_MAX_CHARS = 63
IntervalLike = str | timedelta | Interval


def continuous_rollup(
    name: str,
    reading_model: type,
    field: str | None,
    function: str = "avg",
    interval: IntervalLike = "1 hour",
    start_offset: IntervalLike | None = "1 month",
    end_offset: IntervalLike | None = "1 hour",
    schedule_interval: IntervalLike = "1 hour",
    with_data: bool = True,
) -> Rollup:
    """Return a continuous aggregate as a rollup; the arguments are those of ``base.py``.

    Raises:
        ValueError: an argument cannot be meant; says what can.
    """
    clean_text(name, "name", NAME_MAX_CHARS)
    asked = AggregateQuery.make(reading_model, field, function, interval=interval)
    schema, width = asked.source, asked.interval
    assert not isinstance(schema, str)
    assert width is not None
    return Rollup.make(
        name,
        schema.label,
        fields=() if asked.field is None else (asked.field,),
        functions=(function,),
        widths=(width,),
        group_by=() if schema.device is None else (DEVICE,),
        start_offset=start_offset,
        end_offset=end_offset,
        schedule_interval=schedule_interval,
        with_data=with_data,
    )


class OrmContinuous(BaseBackend):
    """A part of :class:`tailrace.backends.django_db.DjangoDBBackend`."""

    def continuous_aggregate(
        self,
        name: str,
        reading_model: type,
        field: str | None,
        function: str = "avg",
        interval: IntervalLike = "1 hour",
        start_offset: IntervalLike | None = "1 month",
        end_offset: IntervalLike | None = "1 hour",
        schedule_interval: IntervalLike = "1 hour",
        with_data: bool = True,
    ) -> bool:
        rollup = continuous_rollup(
            *(name, reading_model, field, function, interval),
            *(start_offset, end_offset, schedule_interval, with_data),
        )
        with self._rollups_of(reading_model):
            is_new = declare(self, rollup)
        if is_new and with_data:
            self.refresh_rollup(name)
        return is_new

    def refresh_continuous_aggregate(
        self,
        name: str,
        reading_model: type,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        with self._rollups_of(reading_model):
            _check_is_of(self, name, reading_model)
        self.refresh_rollup(name, start, end)

    def drop_continuous_aggregate(self, name: str, reading_model: type) -> None:
        with self._rollups_of(reading_model):
            _check_is_of(self, name, reading_model)
            undeclare(self, name)

    @contextmanager
    def _rollups_of(self, model: type) -> Iterator[None]:
        """Open our connection, to where a model's readings and this backend's rollups are."""
        using = str(self.get_db_alias())
        alias = str(router.db_for_write(model))
        if alias != using:
            raise BackendMisconfigured(missing_backend(_label(model), alias))
        with translated_errors(using), private_connection(using) as connection:
            if not has_tables(connection):
                raise BackendMisconfigured(
                    f"database {using!r} lacks the tables of rollups, or is none that they work "
                    f"on. Run: manage.py migrate tailrace --database={using}"
                )
            yield


def _check_is_of(backend: Any, name: str, model: type) -> None:
    rollup = rollups_of_backend(backend).get(name)
    if rollup is None or rollup.source != _label(model):
        raise ValueError(f"{_label(model)} has no continuous aggregate {name!r:.80}")


def _label(model: Any) -> str:
    return str(model._meta.label)
