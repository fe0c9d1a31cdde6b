"""Whatever aliases the environment names; rules as JSON in ``HOST_RULES``."""

from __future__ import annotations

import json
import os

from mariadb_server import use_pymysql

from databases.host.settings.base import *  # noqa: F403
from databases.host.settings.base import TAILRACE as BASE_TAILRACE
from tailrace.django_integration.databases import databases_from_env
from tailrace.django_integration.routers import ReplicaRouter

DEBUG = os.environ.get("HOST_DEBUG") == "1"
DATABASES = databases_from_env(
    mirror_in_tests=os.environ.get("HOST_MIRROR") == "1",
    conn_max_age=int(os.environ.get("HOST_CONN_MAX_AGE", "0")),
    pool=json.loads(os.environ.get("HOST_POOL", "false")),
)
if any(config["ENGINE"].endswith(".mysql") for config in DATABASES.values()):
    use_pymysql()
_rules = json.loads(os.environ.get("HOST_RULES", "{}"))
DATABASE_ROUTING_RULES = _rules.get("labels", {})
DATABASE_LEGACY_RULES = _rules.get("legacy", {})
DATABASE_TIME_RULES = _rules.get("months", {})
DATABASE_ROUTERS = _rules.get(
    "routers",
    [
        f"tailrace.django_integration.routers.{name}"
        for name in (
            "TelemetryRouter",
            "LegacyRouter",
            "TimeRouter",
            "LabelRouter",
            "ReplicaRouter",
        )
    ],
)
if "HOST_MAX_LAG_SECONDS" in os.environ:
    DATABASE_ROUTERS = [
        *(name for name in DATABASE_ROUTERS if not name.endswith("ReplicaRouter")),
        ReplicaRouter(max_lag_seconds=float(os.environ["HOST_MAX_LAG_SECONDS"])),
    ]
if "telemetry" not in DATABASES:
    TAILRACE = {"ENABLED": BASE_TAILRACE["ENABLED"]}
EXTRA_APPS = [name for name in os.environ.get("HOST_EXTRA_APPS", "").split(",") if name]
INSTALLED_APPS = [*INSTALLED_APPS, *EXTRA_APPS]  # noqa: F405
