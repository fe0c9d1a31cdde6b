"""From a plain table to a hypertable and back, each in one transaction.

TimescaleDB wants the time in every unique index, so the primary key ``(id)`` becomes
``(id, time)``. Django's model stays as it is: ``id`` still finds a row, and is still counted up
by its sequence. What was changed is noted in a comment on the key, for the way back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from tailrace.backends.statements import statement
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.interval import Interval

from .probe import Capabilities, as_parameters

_MARK = "tailrace: "
_TIME_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")


class Index(NamedTuple):
    """An index, as the catalog shows it."""

    name: str
    definition: str
    is_primary: bool
    is_unique: bool
    is_constraint: bool
    columns: list[str]
    comment: str | None


@dataclass(frozen=True)
class Relation:
    """A table that was found."""

    oid: int
    schema: str
    name: str
    kind: str
    time_type: str | None
    is_inherited: bool
    has_policies: bool
    owner: str

    @property
    def identifier(self) -> sql.Identifier:
        """Its full name."""
        return sql.Identifier(self.schema, self.name)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the statements in ``sql/timescale_*.sql`` ask for."""
        return {"oid": self.oid, "schema": self.schema, "table": self.name}


def find(cursor: Any, table: str, column: str) -> Relation:
    """Return a table and the type of its time column.

    Raises:
        NotSupportedByBackend: there is no such table.
    """
    cursor.execute(statement("timescale_table"), {"table": table, "column": column})
    row = cursor.fetchone()
    if row is None:
        raise NotSupportedByBackend(
            f"there is no table {table!r}; write the name of a table (a model's Meta.db_table), in "
            "a migration after the one that makes it"
        )
    return Relation(*row)


def time_column(cursor: Any, relation: Relation) -> str | None:
    """Return the time column of a hypertable; ``None`` if the table is none."""
    cursor.execute(statement("timescale_hypertable"), relation.parameters)
    row = cursor.fetchone()
    return row[0] if row else None


def to_hypertable(
    connection: BaseDatabaseWrapper,
    capabilities: Capabilities,
    table: str,
    column: str,
    chunk: Interval,
    *,
    if_not_exists: bool = True,
    default_indexes: bool = True,
) -> bool:
    """Make a table a hypertable; its rows move into chunks.

    The table is locked against everybody meanwhile.

    Args:
        connection: Django's, to the table's database.
        capabilities: Of that database.
        table: Its name.
        column: Its column of time, a date or timestamp.
        chunk: How much time a chunk holds.
        if_not_exists: Whether one that is a hypertable already is left as it is.
        default_indexes: Whether TimescaleDB may add an index by time.

    Returns:
        Whether it was done.

    Raises:
        NotSupportedByBackend: TimescaleDB or the table does not allow it; says what to change.
    """
    capabilities.require_hypertables(f"table {table!r} cannot become a hypertable")
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        relation = find(cursor, table, column)
        existing = time_column(cursor, relation) if relation.kind == "r" else None
        if existing == column and if_not_exists:
            return False
        if existing is not None:
            raise NotSupportedByBackend(
                f"table {table!r} is a hypertable already, by its column {existing!r}"
            )
        _check(cursor, relation, column)
        cursor.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(relation.identifier)
        )
        check_constraints_now(cursor)
        before = indexes(cursor, relation)
        _check_rows(cursor, relation, column)
        key = _move_key(cursor, relation, before, column)
        create = statement("timescale_create").format(
            create=capabilities.function("create_hypertable")
        )
        parameters = {"relation": relation.oid, "column": column, "indexes": default_indexes}
        cursor.execute(create, {**parameters, **as_parameters(chunk)})
        if key is not None:
            known = {index.name for index in before}
            added = [i.name for i in indexes(cursor, relation) if i.name not in known]
            _note(cursor, relation, key, added)
        check_constraints_now(cursor)
    return True


def check_constraints_now(cursor: Any) -> None:
    """Check what Django defers to the commit: no table changes while rows wait for it."""
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def indexes(cursor: Any, relation: Relation) -> list[Index]:
    """Return a table's indexes."""
    cursor.execute(statement("timescale_indexes"), relation.parameters)
    return [Index(*row) for row in cursor.fetchall()]


def _check(cursor: Any, relation: Relation, column: str) -> None:
    name = relation.name
    if relation.kind != "r" or relation.is_inherited:
        raise NotSupportedByBackend(
            f"{name!r} is no ordinary table: views, partitioned tables and tables that inherit "
            "cannot become hypertables"
        )
    if relation.time_type not in _TIME_TYPES:
        what = f"is of type {relation.time_type}" if relation.time_type else "does not exist"
        raise NotSupportedByBackend(
            f"column {column!r} of table {name!r} {what}; a hypertable needs a column of one of "
            f"the types: {', '.join(_TIME_TYPES)}"
        )
    cursor.execute(statement("timescale_incoming"), relation.parameters)
    incoming = [f"{constraint} of {table}" for table, constraint in cursor.fetchall()]
    if incoming:
        raise NotSupportedByBackend(
            f"table {name!r} cannot become a hypertable: foreign keys point to it "
            f"({', '.join(incoming)}), and its primary key will be (id, {column}). Give those "
            "fields db_constraint=False, or drop them, in a migration before this one."
        )
    unfit = [
        index.name
        for index in indexes(cursor, relation)
        if index.is_unique and not index.is_primary and column not in index.columns
    ]
    if unfit:
        raise NotSupportedByBackend(
            f"table {name!r} cannot become a hypertable: {', '.join(unfit)} must be unique without "
            f"the column {column!r}, which TimescaleDB cannot see to. Add {column!r} to its "
            "fields, or remove it (unique=True, OneToOneField, UniqueConstraint), in a migration "
            "before this one."
        )


def _check_rows(cursor: Any, relation: Relation, column: str) -> None:
    exists = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NULL)")
    cursor.execute(exists.format(relation.identifier, sql.Identifier(column)))
    if cursor.fetchone()[0]:
        raise NotSupportedByBackend(
            f"table {relation.name!r} has rows without {column!r}; give them one, or delete them, "
            "in a migration before this one"
        )


def _move_key(cursor: Any, relation: Relation, before: list[Index], column: str) -> Index | None:
    """Add the time to the primary key; return what the key was, if there is one."""
    key = next((index for index in before if index.is_primary), None)
    if key is not None and column not in key.columns:
        replace_key(cursor, relation.identifier, key.name, [*key.columns, column])
    return key


def replace_key(cursor: Any, table: sql.Identifier, name: str, columns: list[str]) -> None:
    replace = (
        "ALTER TABLE {table} DROP CONSTRAINT {key}, ADD CONSTRAINT {key} PRIMARY KEY ({columns})"
    )
    cursor.execute(
        sql.SQL(replace).format(
            table=table,
            key=sql.Identifier(name),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        )
    )


def _note(cursor: Any, relation: Relation, key: Index, added: list[str]) -> None:
    text = _MARK + json.dumps({"key": key.columns, "added": added})
    comment = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
    cursor.execute(comment.format(sql.Identifier(key.name), relation.identifier, sql.Literal(text)))


def noted(found: list[Index]) -> dict[str, Any]:
    """Return what :func:`to_hypertable` has noted: the old key, and indexes that came with it."""
    comment = next((index.comment for index in found if index.is_primary), None)
    if comment is None or not comment.startswith(_MARK):
        return {}
    note: dict[str, Any] = json.loads(comment.removeprefix(_MARK))
    return note
