"""Fixtures: people who look at the admin's pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

Databases = Callable[..., None]
MODELS = ("event", "deadletter", "exceptiongroup", "ledgerentry", "shardcheckpoint", "producermark")


@pytest.fixture
def admin_client(admin_databases: Databases) -> Client:
    """A superuser's browser."""
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.com"))
    return client


@pytest.fixture
def make_staff(admin_databases: Databases) -> Callable[..., Client]:
    """Make the browser of a person with some permissions: ``make_staff("view_event")``."""

    def make(*names: str) -> Client:
        user = User.objects.create_user("-".join(names) or "nobody", is_staff=True)
        for name in names:
            permission = Permission.objects.get(content_type__app_label="tailrace", codename=name)
            user.user_permissions.add(permission)
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def slow_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind of backfill in ``slow_kind.py``, among the others."""
    from admin.slow_kind import SLOW
    from tailrace.django_integration.backfills import kinds

    monkeypatch.setitem(kinds._registered, SLOW.name, SLOW)
