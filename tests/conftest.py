"""One fixture plugin per concern; each is a module of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import override_settings
from servers import RedisServer

pytest_plugins = ["fix_redis", "fix_postgres", "fix_mariadb", "fix_admin_site", "fix_browser"]


@pytest.fixture(scope="session", autouse=True)
def tailrace_has_a_redis_of_its_own(redis_server: RedisServer) -> Iterator[None]:
    """Keep what tests record by the way off the Redis that a developer's machine may have."""
    own = {**settings.TAILRACE, "REDIS_URL": redis_server.url(db=15)}
    with override_settings(TAILRACE=own):
        yield
