"""A host project with nothing but the admin and Tailrace, for processes of its own.

``ADMIN_DATABASE_URL`` says where it stores; ``ADMIN_TELEMETRY_URL`` adds an alias
``telemetry`` and a second backend, ``devices``, that stores there.
"""

from __future__ import annotations

import os

import dj_database_url

SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def database(url: str) -> dict[str, object]:
    """Return a DATABASES entry for a URL."""
    config: dict[str, object] = dict(dj_database_url.parse(url))
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["OPTIONS"] = SQLITE_OPTIONS
    return config


SECRET_KEY = "for tests only"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "tailrace.django_integration",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
DATABASES = {"default": database(os.environ.get("ADMIN_DATABASE_URL", "sqlite://:memory:"))}
BACKENDS: dict[str, object] = {"default": {"BACKEND": "tailrace.backends.database.DatabaseBackend"}}
if os.environ.get("ADMIN_TELEMETRY_URL"):
    DATABASES["telemetry"] = database(os.environ["ADMIN_TELEMETRY_URL"])
    BACKENDS["devices"] = {
        "BACKEND": "tailrace.backends.django_db.DjangoDBBackend",
        "OPTIONS": {"ALIAS": "telemetry"},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Nothing is recorded here: no Redis is needed.
TAILRACE = {"ENABLED": False, "REDIS_URL": "redis://127.0.0.1:1/0", "BACKENDS": BACKENDS}
SILENCED_SYSTEM_CHECKS = ["tailrace.W001", "tailrace.W003", "tailrace.W005"]

ROOT_URLCONF = "admin.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
