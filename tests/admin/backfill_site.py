"""The settings of ``settings.py``, with the slow kind, and a policy that allows nothing inline."""

from __future__ import annotations

from collections.abc import Callable

from django.apps import AppConfig
from django.http import HttpRequest, HttpResponse

from admin import settings as site
from admin.settings import *  # noqa: F403

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def strict_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Send the policy with every page."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return middleware


class SlowKindConfig(AppConfig):
    """Brings a kind of its own, as a host's app may."""

    name = "admin"
    label = "slow_kind"

    def ready(self) -> None:
        from admin import slow_kind

        slow_kind.register()


INSTALLED_APPS = [*site.INSTALLED_APPS, "admin.backfill_site.SlowKindConfig"]
MIDDLEWARE = ["admin.backfill_site.strict_policy", *site.MIDDLEWARE]
# Nobody reads what the server prints: a full pipe would stop it.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"django.server": {"level": "ERROR"}},
}
