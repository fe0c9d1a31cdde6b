"""Five aliases on a laptop: SQLite files, nothing to set up."""

from __future__ import annotations

from databases.host.settings.base import *  # noqa: F403
from databases.host.settings.base import DATA_DIR
from tailrace.django_integration.databases import databases_from_env

DEBUG = True
DATABASES = databases_from_env(
    {
        "DATABASE__URL": f"sqlite:///{DATA_DIR}/default.sqlite3",
        # The "replica" of a laptop is the same file; SQLite has no replication.
        "DATABASE__URL_REPLICA": f"sqlite:///{DATA_DIR}/default.sqlite3",
        "DATABASE__URL_ANALYTICS": f"sqlite:///{DATA_DIR}/analytics.sqlite3",
        "DATABASE__URL_LEGACY": f"sqlite:///{DATA_DIR}/legacy.sqlite3",
        "DATABASE__URL_TELEMETRY": f"sqlite:///{DATA_DIR}/telemetry.sqlite3",
    },
    mirror_in_tests=True,
)
