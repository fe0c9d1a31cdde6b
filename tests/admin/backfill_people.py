"""What tests of the pages of backfills have in common: addresses, and steps by hand."""

from __future__ import annotations

from typing import Any

from django.test import Client

from tailrace.django_integration.backfills import service
from tailrace.django_integration.models import Backfill

LIST = "/admin/tailrace/backfill/"
ADD = f"{LIST}add/"
FORM = f"{ADD}slow/"


def page_of(row: Backfill, view: str = "change") -> str:
    """The address of a page of a backfill."""
    return f"{LIST}{row.pk}/{view}/"


def filled(**given: str) -> dict[str, str]:
    """The form of the slow kind as a browser posts it."""
    return {"p-measurement": "request", "workers": "2", **{f"p-{n}": v for n, v in given.items()}}


def previewed(client: Client, **given: str) -> Any:
    """Fill in the form and press Preview."""
    return client.post(FORM, filled(**given))


def confirmed(client: Client, token: str, url: str = FORM) -> Any:
    """Press Start on the page of a preview."""
    return client.post(url, {"token": token, "start": "Start it"}, follow=True)


def started(client: Client, **given: str) -> Backfill:
    """Start a backfill through the pages."""
    response = confirmed(client, previewed(client, **given).context["token"])
    assert said(response) == ["It is started."]
    return Backfill.objects.latest("id")


def pressed(client: Client, row: Backfill, action: str, seen: str) -> list[str]:
    """Press a button on a page that showed a state; return the messages."""
    return said(client.post(page_of(row, "press"), {"action": action, "seen": seen}, follow=True))


def said(response: Any) -> list[str]:
    """The messages of a page."""
    return [str(message) for message in response.context["messages"]]


def state_of(row: Backfill) -> str:
    """The state that the database has."""
    return str(Backfill.objects.values_list("state", flat=True).get(pk=row.pk))


def work(row: Backfill) -> None:
    """Do all that there is to do."""
    service.work(row.uid, 30)
