"""Storage backends, and the way to the configured ones."""

from __future__ import annotations

from .registry import backends, get_backend, get_storage_db_alias

__all__ = ["backends", "get_backend", "get_storage_db_alias"]
