"""What each database engine can tell about itself, behind one set of questions."""

from __future__ import annotations

from typing import Any

from tailrace.django_integration.databases.vendors.base import Answer, Vendor
from tailrace.django_integration.databases.vendors.mysql import MySQL
from tailrace.django_integration.databases.vendors.postgresql import PostgreSQL
from tailrace.django_integration.databases.vendors.sqlite import SQLite

_VENDORS: dict[str, type[Vendor]] = {"postgresql": PostgreSQL, "mysql": MySQL, "sqlite": SQLite}


def vendor_of(connection: Any) -> Vendor:
    """Return the questions that can be put to this connection's engine."""
    return _VENDORS.get(connection.vendor, Vendor)(connection)


__all__ = ["Answer", "Vendor", "vendor_of"]
