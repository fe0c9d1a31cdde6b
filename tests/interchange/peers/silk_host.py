"""A host of django-silk: makes requests, queries and profiles, and prints what silk has of them.

Run in a process of its own: ``python silk_host.py <database URL> <how many requests>``.
"""

from __future__ import annotations

import json
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
        "silk",
    ],
    MIDDLEWARE=[
        "silk.middleware.SilkyMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    MEDIA_ROOT=tempfile.mkdtemp(),
    SILKY_META=True,
    SILKY_PYTHON_PROFILER=True,
    TEMPLATES=[],
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402
from silk.models import Profile, Request, Response, SQLQuery  # noqa: E402
from silk.profiling.profiler import silk_profile  # noqa: E402

# In two parts: source lines are in silk's tracebacks, and are no secrets.
SECRET = "hunter2" + "secret"


@silk_profile(name="look up")
def look_up(number: int) -> list[User]:
    """Ask the database."""
    return list(User.objects.filter(username=SECRET, pk=number))


def item(request: HttpRequest, number: int) -> HttpResponse:
    """Ask, and change."""
    look_up(number)
    user = User(username=f"ann{number}", password=f"pbkdf2${SECRET}")
    user.save()
    User.objects.filter(pk=user.pk).update(password=json.dumps({"a": SECRET}) + " x")
    return JsonResponse({"number": number})


def broken(request: HttpRequest) -> HttpResponse:
    """Fail within a profile."""
    with silk_profile(name="breaking"):
        raise LookupError("nothing here")


urlpatterns = [path("item/<int:number>/", item, name="item"), path("broken/", broken)]


def rows(model: type) -> list[dict[str, object]]:
    """Return all rows as silk has them, times as ISO 8601."""
    return [
        {
            name: value.isoformat() if hasattr(value, "isoformat") else value
            for name, value in row.items()
        }
        for row in model.objects.order_by("pk").values()
    ]


def main() -> None:
    """Migrate, make requests, and print what there is."""
    call_command("migrate", verbosity=0)
    client = Client(raise_request_exception=False)
    for number in range(int(sys.argv[2])):
        client.get(f"/item/{number}/?q=grün&token=hunter2secret")
    client.post("/broken/", {"password": "hunter2secret"})
    tables = {model.__name__: rows(model) for model in (Request, Response, SQLQuery, Profile)}
    tables["ProfileQueries"] = [
        {"profile": profile.pk, "queries": profile.queries.count()}
        for profile in Profile.objects.all()
    ]
    print(json.dumps(tables))


main()
