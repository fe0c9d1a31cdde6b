"""What development and production of the host project share: apps, routers, rules."""

from __future__ import annotations

import os
from pathlib import Path

DATA_DIR = Path(os.environ.get("HOST_DATA_DIR", "."))
SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "databases.host.urls"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "tailrace.django_integration",
    "databases.host.blog.apps.Config",
    "databases.host.shop.apps.Config",
    "databases.host.analytics.apps.Config",
    "databases.host.erp.apps.Config",
    "databases.host.timeseries.apps.Config",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASE_ROUTERS = [
    "tailrace.django_integration.routers.TelemetryRouter",
    "tailrace.django_integration.routers.LegacyRouter",
    "tailrace.django_integration.routers.LabelRouter",
    "tailrace.django_integration.routers.ReplicaRouter",
]
DATABASE_ROUTING_RULES = {"analytics": "analytics"}
DATABASE_LEGACY_RULES = {"erp": "legacy"}
DATABASE_CLEANUP_RULES = {"analytics.PageView": {"field": "created_at", "days": 90}}
DEFAULT_EXCEPTION_REPORTER_FILTER = "tailrace.django_integration.databases.secrets.SafeFilter"
DEFAULT_EXCEPTION_REPORTER = "tailrace.django_integration.databases.secrets.SafeReporter"

TAILRACE = {
    # What is tried here is the databases; nothing is recorded, so no Redis is needed.
    "ENABLED": False,
    "BACKENDS": {
        "default": {
            "BACKEND": "tailrace.backends.django_db.DjangoDBBackend",
            "OPTIONS": {"ALIAS": "telemetry"},
        }
    },
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "shared": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "host_cache",
    },
}
