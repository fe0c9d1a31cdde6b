"""Database routers that compose in any order.

Put any of them in ``DATABASE_ROUTERS``, as a dotted path or as an instance. Each says where the
models that it *claims* live, and says nothing about the rest, so a router of your own keeps its
word. When two of ours claim the same model the narrower one wins, wherever it stands in the list:
``TelemetryRouter``, ``LegacyRouter``, ``TimeRouter``, ``LabelRouter``. ``ReplicaRouter`` claims
nothing; it spreads the reads of whatever lives on its primary.
"""

from __future__ import annotations

from tailrace.django_integration.routers.labels import LabelRouter, LegacyRouter
from tailrace.django_integration.routers.months import TimeRouter
from tailrace.django_integration.routers.pins import forget_writes, read_your_writes
from tailrace.django_integration.routers.replica import ReplicaRouter
from tailrace.django_integration.routers.telemetry import TelemetryRouter

__all__ = [
    "LabelRouter",
    "LegacyRouter",
    "ReplicaRouter",
    "TelemetryRouter",
    "TimeRouter",
    "forget_writes",
    "read_your_writes",
]
