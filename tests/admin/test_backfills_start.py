"""Starting a backfill: the forms of all kinds, the preview, the confirmation, what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone

from admin import seed
from admin.backfill_people import ADD, FORM, LIST, confirmed, filled, previewed, said, started, work
from admin.slow_kind import PROBLEMS, SLOW
from admin.test_hostile import Document
from tailrace.django_integration.admin import backfills_start
from tailrace.django_integration.backfills import service
from tailrace.django_integration.models import Backfill
from tailrace.pipeline.backfill.contracts import BackfillRefused
from tailrace.pipeline.errors import TransientBackendError

Staff = Callable[..., Client]
pytestmark = pytest.mark.usefixtures("slow_kind")
INPUTS = ("input", "select", "textarea")


def inputs(response: Any) -> dict[str, dict[str, str]]:
    """The attributes of what a form asks for, by name."""
    found = {}
    for tag, attributes in Document(response.content.decode()).elements:
        if tag in INPUTS and attributes.get("name", "").startswith("p-"):
            found[attributes["name"].removeprefix("p-")] = {"tag": tag, **attributes}
    return found


def problems(response: Any) -> dict[str, list[str]]:
    """What the form says is wrong, by name."""
    return {name: list(texts) for name, texts in response.context["form"].errors.items()}


def errors(response: Any) -> str:
    """What stands above the form."""
    return str(response.context["problem"])


# --- forms


def test_every_kind_has_a_form(admin_client: Client) -> None:
    """With an input for each of its parameters, by the parameter's name."""
    chooser = admin_client.get(ADD).content.decode()
    assert {"copy", "compare", "recompute", "replay", "slow"} <= service.kinds().keys()
    for name, kind in service.kinds().items():
        assert f'href="{ADD}{name}/"' in chooser
        shown = inputs(admin_client.get(f"{ADD}{name}/"))
        assert list(shown) == [parameter.name for parameter in kind.parameters()], name
        for parameter in kind.parameters():
            tag = {"choice": "select", "lines": "textarea"}.get(parameter.type, "input")
            assert shown[parameter.name]["tag"] == tag, (name, parameter.name)


def test_every_kind_says_what_is_missing(admin_client: Client) -> None:
    """An empty form starts nothing; what must be given is marked, for each kind there is."""
    for name, kind in service.kinds().items():
        response = admin_client.post(f"{ADD}{name}/", {"workers": "2"})
        assert response.status_code == 200
        needed = {p.name for p in kind.parameters() if p.is_required and p.default is None}
        if needed:
            assert needed <= problems(response).keys(), name
            assert all(problems(response)[one] == ["must be given"] for one in needed)
            assert "Nothing was started" in response.content.decode()
    assert Backfill.objects.count() == 0


def test_inputs_fit_what_is_asked_for(admin_client: Client) -> None:
    """Types, limits, suggestions and defaults are the browser's help."""
    response = admin_client.get(FORM)
    shown = inputs(response)
    assert shown["measurement"]["list"] == "suggest_measurement"
    assert '<option value="query">Queries</option>' in response.content.decode()
    assert "required" in shown["measurement"]
    steps = shown["steps"]
    assert (steps["type"], steps["min"], steps["max"], steps["value"]) == (
        "number",
        "0",
        "500",
        "5",
    )
    assert (shown["seconds"]["step"], steps["step"]) == ("any", "1")
    assert (shown["start"]["type"], shown["start"]["value"]) == (
        "datetime-local",
        "2026-01-31T12:00:00",
    )
    assert (shown["is_loud"]["type"], "checked" in shown["is_loud"]) == ("checkbox", True)
    page = response.content.decode()
    assert "A path on the hosts where workers run." in page
    assert "Routes. One a line." in page


def test_what_is_typed_wrong_is_told_beside_it(admin_client: Client) -> None:
    """By the parser that the command has, too; and what was typed is still there."""
    response = previewed(
        admin_client, steps="501", seconds="x", start="yesterday", problem="none", only="a\nb"
    )
    assert problems(response) == {
        "steps": ["501 must be at least 0 and at most 500"],
        "seconds": ["'x' is no number"],
        "start": ["'yesterday' is no time; write it as 2026-01-31 or 2026-01-31T12:00:00+01:00"],
        "problem": [f"'none' is not one of: {', '.join(PROBLEMS)}"],
    }
    shown = inputs(response)
    assert (shown["steps"]["value"], shown["start"]["value"]) == ("501", "yesterday")
    assert "checked" not in shown["is_loud"]
    for workers in ("0", "65", "many", ""):
        response = admin_client.post(FORM, {**filled(), "workers": workers})
        assert list(response.context["options"].errors) == ["workers"]
    assert Backfill.objects.count() == 0


def test_a_link_can_fill_in_a_form(admin_client: Client) -> None:
    """A page that knows what is to be done leads here; nothing starts by a link."""
    response = admin_client.get(FORM, {"measurement": "query", "is_loud": "false", "other": "x"})
    shown = inputs(response)
    assert shown["measurement"]["value"] == "query"
    assert "checked" not in shown["is_loud"]


@override_settings(TIME_ZONE="Europe/Berlin")
def test_times_are_those_of_the_person_who_types_them(admin_client: Client) -> None:
    """As the pages show them; the record has UTC."""
    assert timezone.get_current_timezone_name() == "Europe/Berlin"
    assert inputs(admin_client.get(FORM))["start"]["value"] == "2026-01-31T13:00:00"
    response = previewed(admin_client, start="2026-07-01T10:00:30")
    assert ("Start", "2026-07-01 10:00:30 CEST") in response.context["rows"]
    confirmed(admin_client, response.context["token"])
    kept = json.loads(Backfill.objects.latest("id").parameters)
    assert kept["start"] == "2026-07-01T08:00:30Z"
    response = previewed(admin_client, start="2026-07-01T10:00:30+00:00")
    assert ("Start", "2026-07-01 12:00:30 CEST") in response.context["rows"]


# --- preview and start


def test_the_preview_starts_nothing_and_the_confirmation_does(admin_client: Client) -> None:
    """What was previewed, by whom, with the estimate: all of it stays as a record."""
    response = previewed(admin_client, steps="3", seconds="1", only="/a\n\n /b ", is_loud="on")
    assert response.context["estimate"] == [
        ("Rows", "3,000"),
        ("Size", "about 5.7 MiB"),
        ("Time", "about 3 s with one worker, without live traffic"),
    ]
    page = response.content.decode()
    assert "It would read request." in page
    assert "<td>/a<br>/b</td>" in page
    assert ("Live traffic goes first", "no") in response.context["rows"]
    assert Backfill.objects.count() == 0

    answer = confirmed(admin_client, response.context["token"])
    row = Backfill.objects.get()
    assert answer.redirect_chain == [(f"{LIST}{row.pk}/change/", 302)]
    assert (row.kind, row.state, row.created_by, row.workers, row.is_throttled) == (
        "slow",
        "running",
        "root",
        2,
        False,
    )
    kept = json.loads(row.parameters)
    assert (kept["steps"], kept["only"], kept["is_loud"]) == (3, ["/a", "/b"], True)
    assert json.loads(row.estimate)["rows"] == 3000
    work(row)
    row.refresh_from_db()
    assert (row.state, json.loads(row.result)["rows_written"]) == ("done", 3000)


def test_two_clicks_start_one(admin_client: Client) -> None:
    """The second one leads to what the first one has started."""
    token = previewed(admin_client).context["token"]
    first, second = confirmed(admin_client, token), confirmed(admin_client, token)
    assert first.redirect_chain == second.redirect_chain
    assert (said(first), said(second)) == (["It is started."], [])
    assert Backfill.objects.count() == 1
    other = previewed(admin_client).context["token"]
    confirmed(admin_client, other)
    assert Backfill.objects.count() == 2  # who previews again means another one


def test_two_clicks_at_the_same_moment_start_one(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see that there is none yet; the table takes one of them."""
    token = previewed(admin_client).context["token"]
    real = service.start

    def slow_start(*args: Any, **more: Any) -> str:
        real(*args, **more)  # the other click was faster
        return real(*args, **more)

    monkeypatch.setattr(service, "start", slow_start)
    response = confirmed(admin_client, token)
    assert Backfill.objects.count() == 1
    assert response.redirect_chain == [(f"{LIST}{Backfill.objects.get().pk}/change/", 302)]


def test_a_preview_is_its_own_persons_and_kinds(admin_client: Client, make_staff: Staff) -> None:
    """A token of somebody else, of another kind, old or made up starts nothing."""
    token = previewed(admin_client).context["token"]
    other = make_staff("run_backfill")
    responses = [
        confirmed(other, token),
        confirmed(admin_client, token, f"{ADD}copy/"),
        confirmed(admin_client, token + "x"),
        confirmed(admin_client, ""),
    ]
    for response in responses:
        assert response.status_code == 200
        assert "Preview it again" in errors(response)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backfills_start, "PREVIEW_MAX_SECONDS", -1)
        assert "Preview it again" in errors(confirmed(admin_client, token))
    assert Backfill.objects.count() == 0


def test_change_something_leads_back_to_the_form(admin_client: Client) -> None:
    """With everything that was typed."""
    response = previewed(admin_client, steps="7", only="/a\n/b", start="2026-02-03T04:05:06")
    data = {"token": response.context["token"], "change": "Change something"}
    form = admin_client.post(FORM, data)
    shown = inputs(form)
    assert (shown["steps"]["value"], shown["start"]["value"]) == ("7", "2026-02-03T04:05:06")
    assert "/a\n/b</textarea>" in form.content.decode()
    assert "checked" not in shown["is_loud"]
    assert Backfill.objects.count() == 0


# --- what goes wrong


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_kinds_say_is_shown_above_the_form(admin_client: Client, problem: str) -> None:
    """No data, no room, a backend that is down, a file that is not there: not one 500."""
    response = previewed(admin_client, problem=problem, steps="7")
    assert response.status_code == 200
    text = str(PROBLEMS[problem])
    assert errors(response) == f"{text[0].upper()}{text[1:]}. Nothing was started."
    assert inputs(response)["steps"]["value"] == "7"
    assert Backfill.objects.count() == 0


@pytest.mark.parametrize("error", [BackfillRefused("no room"), TransientBackendError("down")])
def test_what_goes_wrong_between_preview_and_start(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is looked at again; the form is there with what was typed."""
    token = previewed(admin_client, steps="7").context["token"]

    def refuse(values: object) -> None:
        raise error

    monkeypatch.setattr(SLOW, "check", refuse)
    response = confirmed(admin_client, token)
    assert errors(response) == f"{str(error).capitalize()}. Nothing was started."
    assert inputs(response)["steps"]["value"] == "7"
    assert Backfill.objects.count() == 0


def test_a_bug_in_a_kind_is_not_hidden(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody expected is an error page and a traceback, as anywhere."""
    monkeypatch.setattr(SLOW, "estimate", lambda values: {}["bug"])
    with pytest.raises(KeyError):
        previewed(admin_client)
    assert Backfill.objects.count() == 0


def test_a_real_one(admin_client: Client) -> None:
    """Dead letters are replayed by a backfill that the pages have started."""
    url = f"{ADD}replay/"
    data = {"p-backend": "default", "workers": "1"}
    response = admin_client.post(url, data)
    assert errors(response).startswith("No such dead letter waits")
    seed.park(range(5))
    response = admin_client.post(url, {**data, "p-reason": "disk"})
    assert response.context["estimate"][0] == ("Rows", "5")
    confirmed(admin_client, response.context["token"], url)
    row = Backfill.objects.get()
    work(row)
    row.refresh_from_db()
    assert row.state == "done"
    assert seed.books()["numbers"] == [0, 1, 2, 3, 4]


def test_the_one_who_starts_is_on_record_by_name(make_staff: Staff) -> None:
    """Also when that person has gone."""
    started(make_staff("run_backfill"))
    User.objects.all().delete()
    assert Backfill.objects.get().created_by == "run_backfill"
