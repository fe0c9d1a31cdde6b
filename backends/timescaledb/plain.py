"""From a hypertable back to a plain table, with the rows, the key and all else it had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from tailrace.backends.statements import statement
from tailrace.pipeline.errors import NotSupportedByBackend

from .convert import (
    Index,
    Relation,
    check_constraints_now,
    find,
    indexes,
    noted,
    replace_key,
    time_column,
)

_TEMPORARY_NAME = "tailrace_plain"


@dataclass(frozen=True)
class _Belongings:
    """What a table has beside columns and rows."""

    indexes: list[Index]
    constraints: list[tuple[str, str, str]]
    triggers: list[tuple[str]]
    grants: list[tuple[str | None, str, bool]]
    sequences: list[tuple[str, str, str, bool, int | None]]


def to_plain_table(connection: BaseDatabaseWrapper, table: str, column: str) -> bool:
    """Make a hypertable an ordinary table again: all rows are copied, and the table is locked.

    The primary key is again what it was before :func:`to_hypertable`; policies and compression
    go, retention with them.

    Args:
        connection: Django's, to the table's database.
        table: Its name.
        column: Its column of time.

    Returns:
        Whether it was a hypertable.

    Raises:
        NotSupportedByBackend: continuous aggregates or views depend on it, or it has row
            security; says what to do first.
    """
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        relation = find(cursor, table, column)
        if time_column(cursor, relation) is None:
            return False
        lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(lock.format(relation.identifier))
        check_constraints_now(cursor)
        _check(cursor, relation)
        belongings = _belongings(cursor, relation)
        plain = sql.Identifier(relation.schema, _TEMPORARY_NAME)
        _copy(cursor, relation, plain)
        _keep_sequences(cursor, relation, belongings, plain)
        _drop(cursor, relation)
        rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
        cursor.execute(rename.format(plain, sql.Identifier(relation.name)))
        _give_back(cursor, relation, belongings)
    return True


def _check(cursor: Any, relation: Relation) -> None:
    cursor.execute(statement("timescale_aggregates_of"), relation.parameters)
    dependent = [f"{schema}.{name}" for schema, name in cursor.fetchall()]
    if dependent:
        raise NotSupportedByBackend(
            f"table {relation.name!r} stays a hypertable: continuous aggregates depend on it. "
            f"DROP MATERIALIZED VIEW them first: {', '.join(dependent)}"
        )
    if relation.has_policies:
        raise NotSupportedByBackend(
            f"table {relation.name!r} stays a hypertable: it has policies of row security, which "
            "would be lost. DROP POLICY them first, and create them again afterwards."
        )


def _belongings(cursor: Any, relation: Relation) -> _Belongings:
    def found(name: str) -> list[Any]:
        cursor.execute(statement(f"timescale_{name}"), relation.parameters)
        return list(cursor.fetchall())

    return _Belongings(
        indexes(cursor, relation),
        found("constraints"),
        found("triggers"),
        found("grants"),
        found("sequences"),
    )


def _copy(cursor: Any, relation: Relation, plain: sql.Identifier) -> None:
    names = {"plain": plain, "table": relation.identifier}
    cursor.execute(statement("timescale_plain").format(**names))
    cursor.execute(statement("timescale_columns"), relation.parameters)
    columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in cursor.fetchall())
    copy = "INSERT INTO {plain} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {table}"
    cursor.execute(sql.SQL(copy).format(columns=columns, **names))


def _keep_sequences(
    cursor: Any, relation: Relation, belongings: _Belongings, plain: sql.Identifier
) -> None:
    """Let numbers go on where they were: the dropped table takes its sequences with it."""
    for column, schema, name, is_identity, last in belongings.sequences:
        old = sql.Identifier(schema, name)
        if not is_identity:
            move = sql.SQL("ALTER SEQUENCE {} OWNED BY {}.{}")
            cursor.execute(move.format(old, plain, sql.Identifier(column)))
        elif last is not None:
            where = (plain.as_string(None), column, last)
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", where)


def _drop(cursor: Any, relation: Relation) -> None:
    try:
        cursor.execute(sql.SQL("DROP TABLE {}").format(relation.identifier))
    except Error as error:
        if not isinstance(error.__cause__, psycopg.errors.DependentObjectsStillExist):
            raise
        raise NotSupportedByBackend(
            f"table {relation.name!r} stays a hypertable: {error}. Drop what depends on it first."
        ) from error


def _give_back(cursor: Any, relation: Relation, belongings: _Belongings) -> None:
    table = relation.identifier
    note = noted(belongings.indexes)
    for name, _, definition in belongings.constraints:
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
        cursor.execute(add.format(table, sql.Identifier(name), sql.SQL(definition)))
    key = next((index for index in belongings.indexes if index.is_primary), None)
    if key is not None and note and note["key"] != key.columns:
        replace_key(cursor, table, key.name, note["key"])
    for index in belongings.indexes:
        if not index.is_constraint and index.name not in note.get("added", ()):
            cursor.execute(index.definition)
    for (definition,) in belongings.triggers:
        cursor.execute(definition)
    for grantee, privilege, is_grantable in belongings.grants:
        grant = sql.SQL("GRANT {} ON {} TO {}{}").format(
            sql.SQL(privilege),
            table,
            sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee),
            sql.SQL(" WITH GRANT OPTION" if is_grantable else ""),
        )
        cursor.execute(grant)
    owner = sql.SQL("ALTER TABLE {} OWNER TO {}")
    cursor.execute(owner.format(table, sql.Identifier(relation.owner)))
    _rename_identities(cursor, relation, belongings)


def _rename_identities(cursor: Any, relation: Relation, belongings: _Belongings) -> None:
    current = find(cursor, relation.name, "")
    cursor.execute(statement("timescale_sequences"), current.parameters)
    fresh = {column: (schema, name) for column, schema, name, *_ in cursor.fetchall()}
    for column, _, name, is_identity, _ in belongings.sequences:
        if is_identity and fresh[column][1] != name:
            rename = sql.SQL("ALTER SEQUENCE {} RENAME TO {}")
            cursor.execute(rename.format(sql.Identifier(*fresh[column]), sql.Identifier(name)))
