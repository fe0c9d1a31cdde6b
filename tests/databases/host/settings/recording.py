"""The aliases of the environment, with recording on: ``HOST_REDIS_URL``, ``HOST_STORAGE_ALIAS``."""

from __future__ import annotations

import os

from databases.host.settings.env import *  # noqa: F403

TAILRACE = {
    "REDIS_URL": os.environ["HOST_REDIS_URL"],
    "SPOOL_DIR": os.path.join(os.environ["HOST_DATA_DIR"], "spool"),
    "SHARDS": 1,
    "BACKENDS": {
        "default": {
            "BACKEND": "tailrace.backends.django_db.DjangoDBBackend",
            "OPTIONS": {"ALIAS": os.environ.get("HOST_STORAGE_ALIAS", "default")},
        }
    },
}
CELERY_BROKER_URL = os.environ.get("HOST_BROKER_URL", "")
CELERY_DB_REUSE_MAX = int(os.environ.get("HOST_DB_REUSE_MAX", "0"))
# Everything that any library has to say is in the output that tests look through.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("HOST_LOG_LEVEL", "WARNING")},
}
