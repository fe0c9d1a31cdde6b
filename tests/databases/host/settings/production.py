"""Five aliases in production: URLs from the environment, pooled connections."""

from __future__ import annotations

from databases.host.settings.base import *  # noqa: F403
from tailrace.django_integration.databases import databases_from_env

DEBUG = False
DATABASES = databases_from_env(pool={"min_size": 1, "max_size": 4, "timeout": 3})
