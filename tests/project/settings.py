"""Settings of the project that the tests and the demo use.

Everything that differs between a test, ``make demo`` and compose.yaml comes from the
environment; with an empty environment the project runs on SQLite.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

PROJECT_DIR = Path(__file__).resolve().parent
DATA_DIR = Path(os.environ.get("PROJECT_DATA_DIR", PROJECT_DIR.parent.parent / ".demo"))

# Good for a demo on 127.0.0.1 and for tests, and for nothing else.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "for tests and the demo only")
DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,testserver").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "project.shop",
]
INSTALLED_APPS += ["tailrace.django_integration"]

MIDDLEWARE = [
    "tailrace.django_integration.middleware.TelemetryMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TAILRACE = {"REDIS_URL": os.environ.get("TAILRACE_REDIS_URL", "redis://localhost:6379/0")}
if "PROJECT_FLUSH_INTERVAL_SECONDS" in os.environ:  # for tests of the end of a process
    TAILRACE["FLUSH_INTERVAL_SECONDS"] = float(os.environ["PROJECT_FLUSH_INTERVAL_SECONDS"])

if "PROJECT_BACKENDS" in os.environ:  # for tests of processes that store elsewhere
    TAILRACE["BACKENDS"] = json.loads(os.environ["PROJECT_BACKENDS"])

if "PROJECT_RETENTION" in os.environ:  # for tests of what beat and commands do about it
    TAILRACE["RETENTION"] = json.loads(os.environ["PROJECT_RETENTION"])
    TAILRACE["RETENTION_INTERVAL_SECONDS"] = 2.0

SQLITE_OPTIONS = {
    # BEGIN takes the write lock at once: a transaction that reads first and writes later
    # would otherwise fail with "database is locked" without waiting for `timeout`.
    "transaction_mode": "IMMEDIATE",
    "timeout": 5,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def database(url: str, sqlite_name: str) -> dict[str, object]:
    """Return a DATABASES entry for ``url``, or for a SQLite file if it is empty.

    Raises:
        ValueError: the URL is not a PostgreSQL one.
    """
    if not url:
        name = DATA_DIR / sqlite_name
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": SQLITE_OPTIONS}
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError(f"Use postgresql://user:password@host:port/name, not {parts.scheme}://")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


DATABASES = {
    "default": database(os.environ.get("DATABASE_URL", ""), "shop.sqlite3"),
    "telemetry": database(os.environ.get("TELEMETRY_DATABASE_URL", ""), "telemetry.sqlite3"),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/1")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# Checkout hands its receipt to a task where there is a broker (the demo, compose.yaml).
SHOP_SENDS_RECEIPTS = os.environ.get("SHOP_SENDS_RECEIPTS") == "1"

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"
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

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
