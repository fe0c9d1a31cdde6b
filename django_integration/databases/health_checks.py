"""Checks for django-health-check 4 (``pip install django-health-check``).

``HealthCheckView.as_view(checks=["tailrace.django_integration.databases.health_checks.Databases"])``
"""

from __future__ import annotations

import dataclasses
import datetime

from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable, ServiceWarning

from tailrace.django_integration.databases.health import (
    HEALTHY,
    TIMEOUT_SECONDS,
    check_all_databases,
)
from tailrace.django_integration.databases.selection import essential_aliases


@dataclasses.dataclass
class Databases(HealthCheck):
    """All databases answer.

    Args:
        databases: aliases; ``None`` is all of them.
        timeout: how long to wait for them.
    """

    databases: tuple[str, ...] | None = None
    timeout: datetime.timedelta = dataclasses.field(
        default=datetime.timedelta(seconds=TIMEOUT_SECONDS), repr=False
    )

    def run(self) -> None:
        """Ask them.

        Raises:
            ServiceUnavailable: an essential one is down.
            ServiceWarning: only a replica, telemetry or a legacy database is down.
        """
        answers = check_all_databases(self.databases, timeout_seconds=self.timeout.total_seconds())
        down = sorted(alias for alias, found in answers.items() if found["status"] != HEALTHY)
        if set(down) & essential_aliases():
            raise ServiceUnavailable(f"down: {', '.join(down)}")
        if down:
            raise ServiceWarning(f"down, but not essential: {', '.join(down)}")
