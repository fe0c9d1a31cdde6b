"""Many databases: configuration, health, maintenance, migrations, managers.

``databases_from_env`` and ``DatabaseConfig`` are for ``settings.py``, so importing this package
loads nothing that needs settings; the rest is loaded when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tailrace.django_integration.databases.env import DatabaseConfig, databases_from_env

_LAZY = {
    "bulk_upsert": "helpers",
    "cached_read": "helpers",
    "check_all_databases": "health",
    "cleanup_expired_cache_entries": "maintenance",
    "cleanup_old_analytics_data": "maintenance",
    "close_old_connections": "inspection",
    "get_connection_info": "inspection",
    "get_database_sizes": "inspection",
    "get_replication_lag": "inspection",
    "get_slow_queries": "inspection",
    "get_table_bloat": "inspection",
    "MultiDatabaseManager": "managers",
    "reset_queries": "inspection",
    "run_maintenance": "maintenance",
    "vacuum_databases": "maintenance",
}

__all__ = ["DatabaseConfig", "databases_from_env", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
