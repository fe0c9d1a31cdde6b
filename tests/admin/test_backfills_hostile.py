"""Parameters, labels, reasons and log lines are what strangers sent: none becomes markup."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client

from admin.backfill_people import ADD, FORM, LIST, filled, page_of, previewed, started, work
from admin.test_hostile import MARK, PAYLOADS, dangers
from tailrace.django_integration.backfills import service
from tailrace.django_integration.models import Backfill
from tailrace.pipeline.backfill.contracts import BackfillRefused

pytestmark = pytest.mark.usefixtures("slow_kind")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_are_text_on_every_page(admin_client: Client, payload: str) -> None:
    """In the form, its errors, the preview, the page at work and at its end, and the list."""
    pages = [previewed(admin_client, measurement=payload, only=payload, file=payload)]
    wrong = dict.fromkeys(("steps", "seconds", "start", "problem"), payload)
    pages.append(previewed(admin_client, measurement=payload, **wrong))
    pages.append(admin_client.get(FORM, dict.fromkeys(("measurement", "only", "steps"), payload)))
    more = {"steps": "3", "is_loud": "on", "failing": "1"}
    row = started(admin_client, measurement=payload, only=payload, **more)
    pages.append(admin_client.get(page_of(row)))
    service.store().log(row.uid, payload)
    work(row)  # the failed step's label, reason and note have it
    for address in (page_of(row), LIST, f"{LIST}?kind=slow"):
        pages.append(admin_client.get(address))
    for page in pages:
        text = page.content.decode()
        assert dangers(text) == []
        assert MARK in text
    answer = admin_client.get(page_of(row, "status"))
    assert answer["Content-Type"] == "application/json"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert MARK in json.loads(answer.content)["failures"][0][2]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_in_records_are_text(admin_client: Client, payload: str) -> None:
    """Whoever wrote the row: a kind's or a person's name, a result, a plan of steps."""
    result = {"notes": [payload], "rows_read": 1, "source_digest": "1:0a", "target_digest": "1:0b"}
    row = Backfill.objects.create(
        uid="0" * 32,
        kind=payload[:40],
        state="failed",
        parameters=json.dumps({payload: payload, "list": [payload]}),
        estimate=json.dumps({"notes": [payload]}),
        result=json.dumps(result),
        log=payload,
        created_by=payload,
        created_at=datetime.now(UTC),
        finished_at=datetime.now(UTC),
        is_planned=True,
    )
    for address in (page_of(row), LIST):
        text = admin_client.get(address).content.decode()
        assert dangers(text) == []
        assert MARK in text
    assert "NOT equal at both ends" in admin_client.get(page_of(row)).content.decode()


@pytest.mark.parametrize("payload", PAYLOADS[:3])
def test_payloads_in_errors_and_messages_are_text(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, payload: str
) -> None:
    """What a kind refuses with, and a forged button."""
    from admin.slow_kind import SLOW

    def refuse(values: object) -> None:
        raise BackfillRefused(payload)

    row = started(admin_client)
    monkeypatch.setattr(SLOW, "check", refuse)
    pages = [previewed(admin_client)]
    for query in ({"kind": payload}, {"state": payload}, {"before": payload}):
        pages.append(admin_client.get(LIST, query, follow=True))
    data = {"action": payload, "seen": payload}
    pages.append(admin_client.post(page_of(row, "press"), data, follow=True))
    data["action"] = "pause"
    pages.append(admin_client.post(page_of(row, "press"), data, follow=True))
    pages.append(admin_client.post(FORM, {"token": payload}))
    for page in pages:
        assert dangers(page.content.decode()) == []
    assert MARK in pages[0].content.decode()


def test_a_name_of_a_person_is_text(admin_client: Client) -> None:
    """Django takes few characters in a name; other ways of logging in take any."""
    client = Client()
    user = User.objects.create_superuser(PAYLOADS[0])
    client.force_login(user)
    row = started(client, steps="1")
    text = client.get(page_of(row)).content.decode()
    assert dangers(text) == []
    assert "started by &lt;script&gt;" in text


def test_a_kinds_own_words_are_text(admin_client: Client) -> None:
    """Kinds of other apps write titles, labels and help; none of it is trusted."""
    text = admin_client.get(ADD).content.decode()
    assert "writes nothing &lt;at all&gt;." in text
    assert dangers(admin_client.get(FORM).content.decode()) == []


def test_a_nul_does_no_harm(admin_client: Client) -> None:
    """PostgreSQL would not take it, so the form does not."""
    response = admin_client.post(FORM, filled(measurement="a\0b"))
    assert list(response.context["form"].errors) == ["measurement"]
    assert admin_client.get(LIST, {"kind": "a\0"}).status_code == 400
    assert Backfill.objects.count() == 0


def test_long_things_stay_small_in_the_list(admin_client: Client) -> None:
    """A parameter of many lines is cut there and whole on its own page."""
    row = started(admin_client, only="\n".join(f"/route/{n}" for n in range(2000)))
    assert len(admin_client.get(LIST).content) < 60_000
    assert "/route/1999" in admin_client.get(page_of(row)).content.decode()
