"""Continuous aggregates: what we make, note, and find again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from tailrace.backends.reading.columns import ReadingSchema, kind_of
from tailrace.backends.statements import statement
from tailrace.pipeline.interval import Interval

from .convert import Relation
from .probe import as_literal

MARK = "tailrace: "
NAME_MAX_BYTES = 63


@dataclass(frozen=True)
class Definition:
    """What a continuous aggregate is of."""

    field: str | None
    function: str
    seconds: int
    months: int

    @property
    def note(self) -> str:
        """How it is written into the view's comment."""
        return MARK + json.dumps(asdict(self))


@dataclass(frozen=True)
class Found:
    """A continuous aggregate of a hypertable."""

    schema: str
    name: str
    definition: Definition | None
    """``None`` where it is not one of ours."""
    materialized: int
    """The number of the hypertable with its buckets."""
    raw: int
    """... and of the one it is computed from."""
    buckets: sql.Identifier
    """The hypertable with its buckets."""

    @property
    def identifier(self) -> sql.Identifier:
        """Its full name."""
        return sql.Identifier(self.schema, self.name)


def checked_name(name: object) -> str:
    """Return a name that a view can have; else raise ``ValueError``."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"name is {name!r:.80}; write a name for the continuous aggregate")
    if len(name.encode(errors="replace")) > NAME_MAX_BYTES or not _is_text(name):
        raise ValueError(f"name {name!r:.80} is longer than {NAME_MAX_BYTES} bytes, or no text")
    return name


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def find_aggregates(cursor: Any, relation: Relation, name: str | None = None) -> list[Found]:
    """Return the continuous aggregates of a hypertable, or the one of a name."""
    cursor.execute(statement("timescale_find_aggregates"), {**relation.parameters, "name": name})
    return [
        Found(schema, view, _definition(comment), own, raw, sql.Identifier(*buckets))
        for schema, view, comment, own, raw, *buckets in cursor.fetchall()
    ]


def _definition(comment: str | None) -> Definition | None:
    if comment is None or not comment.startswith(MARK):
        return None
    return Definition(**json.loads(comment.removeprefix(MARK)))


def create_statement(
    schema: ReadingSchema,
    relation: Relation,
    view: sql.Identifier,
    definition: Definition,
    time_bucket: sql.Identifier,
) -> sql.Composed:
    """Return the statement that makes a continuous aggregate, with nothing in it yet.

    Its columns are ``bucket``, ``device_id``, ``result``, and what it takes to compute the
    result of several devices or buckets together.
    """
    interval = Interval(seconds=definition.seconds, months=definition.months)
    columns: list[sql.Composable] = [
        sql.SQL("{}({}, {}) AS bucket").format(
            time_bucket, as_literal(interval), sql.Identifier(schema.time.column)
        )
    ]
    groups = "1"
    if schema.device is not None:
        columns.append(sql.SQL("{} AS device_id").format(sql.Identifier(schema.device.column)))
        groups = "1, 2"
    columns += _results(schema, definition)
    create = (
        "CREATE MATERIALIZED VIEW {view} "
        "WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS "
        "SELECT {columns} FROM {table} GROUP BY {groups} WITH NO DATA"
    )
    return sql.SQL(create).format(
        view=view,
        columns=sql.SQL(", ").join(columns),
        table=relation.identifier,
        groups=sql.SQL(groups),
    )


def _results(schema: ReadingSchema, definition: Definition) -> list[sql.Composable]:
    function = definition.function
    if definition.field is None:
        return [sql.SQL("count(*) AS result")]
    column = schema.column(definition.field)
    value: sql.Composable = sql.Identifier(column.column)
    if function == "count":
        return [sql.SQL("count({}) AS result").format(value)]
    if kind_of(column) == "float":
        finite = "CASE WHEN {0} > '-Infinity'::float8 AND {0} < 'Infinity'::float8 THEN {0} END"
        value = sql.SQL(finite).format(value)
    if function in ("min", "max"):
        return [sql.SQL("{}({}) AS result").format(sql.SQL(function), value)]
    if function in ("avg", "sum"):
        parts = "{}({value}) AS result, sum({value}) AS total, count({value}) AS numbers"
        return [sql.SQL(parts).format(sql.SQL(function), value=value)]
    percentile = "percentile_cont({}) WITHIN GROUP (ORDER BY ({})::float8) AS result"
    return [sql.SQL(percentile).format(sql.Literal(int(function[1:]) / 100), value)]


def add_policy(cursor: Any, add: sql.Identifier, view: str, **offsets: Interval | None) -> None:
    """Have TimescaleDB refresh a continuous aggregate.

    Args:
        cursor: Django's.
        add: ``add_continuous_aggregate_policy``, by its full name.
        view: The quoted name.
        **offsets: ``start``, ``end`` and ``schedule``.
    """
    texts = {name: None if each is None else str(each) for name, each in offsets.items()}
    cursor.execute(statement("timescale_aggregate_policy").format(add=add), {"view": view, **texts})
