"""The SQL statements in ``sql/*.sql``, by name."""

from __future__ import annotations

import functools
from importlib import resources

from psycopg import sql


@functools.cache
def statement(name: str) -> sql.SQL:
    """Return the statement in ``sql/<name>.sql``.

    Values are bound where it says ``%s`` or ``%(name)s``; identifiers are put in with
    ``.format(name=sql.Identifier(...))`` where it says ``{name}``.
    """
    text = resources.files(__package__).joinpath("sql", f"{name}.sql").read_text("utf-8")
    return sql.SQL(text)
