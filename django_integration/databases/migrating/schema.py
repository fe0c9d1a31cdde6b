"""What a database really has: tables, columns, constraints, indexes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

_INVALID_INDEXES = """
    SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE NOT i.indisvalid AND pg_table_is_visible(c.oid)
"""


class Schema:
    """A snapshot, read as it is asked for; make a new one after a change.

    Args:
        connection: a Django connection.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._columns: dict[str, frozenset[str]] = {}
        self._constraints: dict[str, frozenset[str]] = {}

    def has_table(self, table: str) -> bool:
        """Say whether there is a table or view of this name."""
        return self._fold(table) in self._tables

    def has_column(self, table: str, column: str) -> bool:
        """Say whether the table has the column; a missing table has none."""
        return self.has_table(table) and self._fold(column) in self._columns_of(table)

    def has_constraint(self, table: str, name: str) -> bool:
        """Say whether the table has a usable index or constraint of this name."""
        if not self.has_table(table) or self._fold(name) in self.invalid_indexes:
            return False
        return self._fold(name) in self._constraints_of(table)

    @cached_property
    def invalid_indexes(self) -> frozenset[str]:
        """Indexes that ``CREATE INDEX CONCURRENTLY`` began and did not end."""
        if self.connection.vendor != "postgresql":
            return frozenset()
        with self.connection.cursor() as cursor:
            cursor.execute(_INVALID_INDEXES)
            return frozenset(self._fold(row[0]) for row in cursor.fetchall())

    @cached_property
    def _tables(self) -> frozenset[str]:
        with self.connection.cursor() as cursor:
            names = self.connection.introspection.table_names(cursor, include_views=True)
        return frozenset(map(self._fold, names))

    def _columns_of(self, table: str) -> frozenset[str]:
        if table not in self._columns:
            with self.connection.cursor() as cursor:
                found = self.connection.introspection.get_table_description(cursor, table)
            self._columns[table] = frozenset(self._fold(column.name) for column in found)
        return self._columns[table]

    def _constraints_of(self, table: str) -> frozenset[str]:
        if table not in self._constraints:
            with self.connection.cursor() as cursor:
                found = self.connection.introspection.get_constraints(cursor, table)
            self._constraints[table] = frozenset(map(self._fold, found))
        return self._constraints[table]

    def _fold(self, name: str) -> str:
        # Names of models can come quoted ('"schema"."table"'); the catalogue has them bare.
        bare = name.split('"."')[-1].strip('"')
        return self.connection.introspection.identifier_converter(bare).lower()
