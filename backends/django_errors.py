"""Django's database errors in the three classes that the drain acts on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

from tailrace.pipeline.errors import (
    BackendMisconfigured,
    RejectedEvents,
    TransientBackendError,
)

_ABOUT_THE_SERVER = (
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html: data, integrity, check option,
# a limit that one row passes, an exception that a trigger raises.
_DATA_CODES = ("22", "23", "44", "54", "P0")
_MISSING_CODES = ("42P01", "42703", "3F000")  # no such table, column, schema
_MISSING_TABLE = ("no such table", "no such column", "has no column", "doesn't exist")


@contextmanager
def translated_errors(alias: str) -> Iterator[None]:
    """Translate what goes wrong with the database ``alias`` as a whole."""
    try:
        yield
    except ProgrammingError as error:
        code = getattr(error.__cause__, "sqlstate", None)
        if code in _MISSING_CODES or (code is None and _names_missing_table(error)):
            raise _not_migrated(alias, error) from error
        raise BackendMisconfigured(
            f"database {alias!r} refused a statement: {str(error).strip()}"
        ) from error
    except NotSupportedError as error:
        raise BackendMisconfigured(f"database {alias!r}: {error}") from error
    except (OperationalError, InterfaceError, InternalError) as error:
        if _names_missing_table(error):
            raise _not_migrated(alias, error) from error
        raise TransientBackendError(f"database {alias!r}: {error}") from error
    except DatabaseError as error:
        # Refused data, and not in write(): checkpoint, marks or ledger do not fit their columns.
        raise BackendMisconfigured(
            f"database {alias!r} refuses Tailrace's own books: {str(error).strip()}. "
            f"Are its tables those of this version? Run: manage.py migrate tailrace "
            f"--database={alias}"
        ) from error
    except ImproperlyConfigured as error:
        raise BackendMisconfigured(f"database {alias!r}: {error}") from error


@contextmanager
def translated_rejections() -> Iterator[None]:
    """Translate what the database says of the data we gave it."""
    try:
        yield
    except (DataError, IntegrityError, ValueError, TypeError, OverflowError) as error:
        # The last three come from the driver, before the server has seen the value.
        raise RejectedEvents(str(error)) from error
    except DatabaseError as error:
        if isinstance(error, _ABOUT_THE_SERVER) and not _is_about_the_data(error):
            raise
        raise RejectedEvents(str(error)) from error


def _is_about_the_data(error: DatabaseError) -> bool:
    """Look at PostgreSQL's code: Django's class alone blames the statement or the server."""
    code = getattr(error.__cause__, "sqlstate", None) or ""
    return code.startswith(_DATA_CODES)


def _names_missing_table(error: Exception) -> bool:
    return any(words in str(error) for words in _MISSING_TABLE)


def _not_migrated(alias: str, error: Exception) -> BackendMisconfigured:
    return BackendMisconfigured(
        f"database {alias!r} lacks Tailrace's tables: {str(error).strip()}. "
        f"Run: manage.py migrate tailrace --database={alias}"
    )
