"""One fixture plugin per concern; each is a module of this folder."""

from __future__ import annotations

pytest_plugins = ["fix_redis", "fix_postgres", "fix_admin_site", "fix_browser"]
