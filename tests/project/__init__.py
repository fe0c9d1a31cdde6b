"""The Django project that the tests and the demo use: a small shop, as a host would write it."""

from __future__ import annotations

from project.celery import app as celery_app

__all__ = ["celery_app"]
