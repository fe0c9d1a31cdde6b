"""A Celery app for a host that has none.

::

    export DJANGO_SETTINGS_MODULE=mysite.settings
    celery -A tailrace.django_integration.celery_app worker -B

It takes its settings from Django's, prefixed ``CELERY_`` (such as ``CELERY_BROKER_URL``); the
broker is Tailrace's Redis unless there is one.
"""

from __future__ import annotations

import django
from celery import Celery
from django.conf import settings

django.setup()

from .conf import get_config  # noqa: E402 - needs the settings

app = Celery("tailrace")
app.config_from_object("django.conf:settings", namespace="CELERY")
if not getattr(settings, "CELERY_BROKER_URL", None):
    app.conf.broker_url = get_config().redis_url
app.conf.update(task_ignore_result=True, accept_content=["json"], task_serializer="json")
