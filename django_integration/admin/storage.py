"""Which databases hold what Tailrace stores, and for which backends."""

from __future__ import annotations

import logging

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from tailrace.backends import get_storage_db_alias
from tailrace.django_integration import conf

logger = logging.getLogger("tailrace")

PARAMETER = "database"
_UNKNOWN = "default"


def backends_by_database() -> dict[str, list[str]]:
    """Return the backends that store in each database alias, in the order of the settings."""
    found: dict[str, list[str]] = {}
    for backend in conf.get_config().backends:
        try:
            alias = get_storage_db_alias(backend)
        except ImproperlyConfigured as error:
            # The system checks report it, too; the pages of the other backends go on.
            logger.error("backend %s is not shown in the admin: %s", backend, error)
            continue
        if alias is not None:
            found.setdefault(alias, []).append(backend)
    return found or {_UNKNOWN: []}


def chosen_database(request: HttpRequest) -> str:
    """Return the alias that a request asks for; the first one if it asks for none."""
    known = list(backends_by_database())
    wanted = request.GET.get(PARAMETER)
    return wanted if wanted in known else known[0]


def database_query(alias: str) -> dict[str, str]:
    """Return what a link must carry to stay in a database: nothing where there is one only."""
    return {} if alias == next(iter(backends_by_database())) else {PARAMETER: alias}
