"""A host of django-orbit: makes entries of all its 17 types, and prints what orbit has of them.

Run in a process of its own: ``python orbit_host.py <database URL> <how many requests>``.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tempfile

import dj_database_url
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="of a host that lives for a second",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    TIME_ZONE="Europe/Berlin",
    DATABASES={"default": dj_database_url.parse(sys.argv[1])},
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "orbit",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "orbit.middleware.OrbitMiddleware",
    ],
    EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
    MEDIA_ROOT=tempfile.mkdtemp(),
    ORBIT_CONFIG={"RECORD_SIGNALS": True, "STORAGE_LIMIT": 10**6, "LLM_CAPTURE_CONTENT": True},
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.files.base import ContentFile  # noqa: E402
from django.core.files.storage import default_storage  # noqa: E402
from django.core.mail import send_mail  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.dispatch import Signal  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402
from orbit.helpers import dump  # noqa: E402
from orbit.llm import record_llm_call  # noqa: E402
from orbit.models import OrbitEntry  # noqa: E402
from orbit.watchers import (  # noqa: E402
    record_celery_task,
    record_http_client_request,
    record_redis_operation,
)

logger = logging.getLogger("shop")
shipped = Signal()


def item(request: HttpRequest, number: int) -> HttpResponse:
    """Ask the database."""
    list(User.objects.filter(username="hunter2secret", pk=number))
    logger.warning("low stock, token=hunter2secret", extra={"number": number})
    return JsonResponse({"number": number})


def broken(request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise LookupError("nothing here, password=hunter2secret")


urlpatterns = [path("item/<int:number>/", item), path("broken/", broken)]


def make_entries(requests: int) -> None:
    """Do what each watcher watches."""
    client = Client(raise_request_exception=False)
    for number in range(requests):
        client.get(f"/item/{number}/?q=grün&api_key=hunter2secret")
    client.post("/broken/", {"password": "hunter2secret"})
    with contextlib.redirect_stdout(io.StringIO()):
        call_command("check", "auth")
    cache.set("stock", 3, 60)
    cache.get("stock")
    cache.get("missing")
    with transaction.atomic():
        user = User.objects.create(username="ann", email="ann@example.com")
    user.first_name = "Ann"
    user.save()
    user.has_perm("auth.add_user")
    dump(user, password="hunter2secret", ratio=0.5, big=2**70, items=[1, {"a": None}])
    send_mail("Hello", "text", "shop@example.com", ["ann@example.com"])
    shipped.send(sender=User, number=7)
    default_storage.save("invoice.txt", ContentFile(b"12 Euro"))
    # orbit's handlers of Celery's signals are held weakly by Celery, and are gone by now.
    record_celery_task(
        "7d3c", "shop.bill", (21,), {"token": "hunter2secret"}, "success", 42, None, 3.5
    )
    record_http_client_request(
        "get", "https://user:hunter2secret@api.example.com/x", 503, 12.5, {"A": "b"}, 17
    )
    record_redis_operation("get", "stock:7", 0.25, 5)
    record_llm_call(
        provider="openai",
        operation="chat.completions",
        model="gpt",
        duration_ms=812.5,
        kwargs={"messages": [{"role": "user", "content": "hunter2secret"}]},
        metadata={"tries": 2},
    )


def main() -> None:
    """Migrate, make entries, and print what there is."""
    call_command("migrate", verbosity=0)
    OrbitEntry.objects.all().delete()
    make_entries(int(sys.argv[2]))
    entries = [
        {
            "id": str(entry.id),
            "type": entry.type,
            "family_hash": entry.family_hash,
            "fingerprint": entry.fingerprint,
            "tags": entry.tags,
            "payload": entry.payload,
            "created_at": entry.created_at.isoformat(),
            "duration_ms": entry.duration_ms,
        }
        for entry in OrbitEntry.objects.order_by("created_at", "id")
    ]
    print(json.dumps(entries))


main()
