"""The test project with a host's app of readings, on one database or on two."""

from __future__ import annotations

import os

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS as PROJECT_APPS
from project.settings import TAILRACE as PROJECT_TAILRACE

INSTALLED_APPS = [*PROJECT_APPS, "readings.station"]
BACKEND = os.environ.get("READINGS_BACKEND", "tailrace.backends.django_db.DjangoDBBackend")
TAILRACE = {
    **PROJECT_TAILRACE,
    "BACKENDS": {"default": {"BACKEND": BACKEND, "OPTIONS": {"ALIAS": "default"}}},
}
if os.environ.get("READINGS_ALIAS"):
    # Readings, their devices and the backend that stores them have a database of their own.
    if os.environ["READINGS_ALIAS"] != "alone":
        TAILRACE["BACKENDS"]["devices"] = {"BACKEND": BACKEND, "OPTIONS": {"ALIAS": "telemetry"}}
    DATABASE_ROUTERS = [
        "tailrace.django_integration.routers.LabelRouter",
        "tailrace.django_integration.routers.TelemetryRouter",
    ]
    DATABASE_ROUTING_RULES = {"station": "telemetry"}
