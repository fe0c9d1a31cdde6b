"""The pages of backfills: who may, what is shown, what the buttons do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import resolve

from admin.backfill_people import (
    ADD,
    FORM,
    LIST,
    filled,
    page_of,
    pressed,
    previewed,
    said,
    started,
    state_of,
    work,
)
from tailrace.django_integration.admin import backfills_progress
from tailrace.django_integration.backfills import service
from tailrace.django_integration.models import Backfill

Staff = Callable[..., Client]
pytestmark = pytest.mark.usefixtures("slow_kind")


def status(client: Client, row: Backfill, **query: str) -> dict[str, Any]:
    """What a page is told when it asks."""
    found: dict[str, Any] = client.get(page_of(row, "status"), query).json()
    return found


# --- who may


def test_who_may_see_and_do_what(admin_client: Client, make_staff: Staff) -> None:
    """Every address, for everybody: the login, a refusal, or the page."""
    row = started(admin_client, steps="3")
    ordinary = Client()
    ordinary.force_login(User.objects.create_user("ordinary"))
    people = {
        "anonymous": (Client(), dict.fromkeys(("see", "run", "post"), 302)),
        "ordinary": (ordinary, dict.fromkeys(("see", "run", "post"), 302)),
        "staff": (make_staff("view_event"), dict.fromkeys(("see", "run", "post"), 403)),
        "viewer": (make_staff("view_backfill"), {"see": 200, "run": 403, "post": 403}),
        "changer": (make_staff("change_backfill"), {"see": 200, "run": 403, "post": 403}),
        "runner": (make_staff("run_backfill"), {"see": 200, "run": 200, "post": 405}),
    }
    for name, (client, expected) in people.items():
        for address in (LIST, page_of(row), page_of(row, "status")):
            assert client.get(address).status_code == expected["see"], (name, address)
        for address in (ADD, FORM, f"{ADD}copy/"):
            assert client.get(address).status_code == expected["run"], (name, address)
        assert client.get(page_of(row, "press")).status_code == expected["post"], name
        if name == "runner":
            continue
        for address in (ADD, FORM, page_of(row, "press"), page_of(row, "status"), page_of(row)):
            data = {**filled(), "action": "cancel", "seen": "running"}
            assert client.post(address, data).status_code in (302, 403, 200), (name, address)
        assert (state_of(row), Backfill.objects.count()) == ("running", 1), name


def test_a_viewer_has_no_buttons(admin_client: Client, make_staff: Staff) -> None:
    """Who may only look sees how it goes, and nothing to press."""
    row = started(admin_client)
    viewer, runner = make_staff("view_backfill"), make_staff("run_backfill")
    assert "data-action" not in viewer.get(page_of(row)).content.decode()
    assert "Start a backfill" not in viewer.get(LIST).content.decode()
    assert runner.get(page_of(row)).content.decode().count("data-action") == 4
    assert "Start a backfill" in runner.get(LIST).content.decode()


def test_nothing_changes_without_the_token_of_the_site(admin_client: Client) -> None:
    """A page of somebody else that posts here gets nowhere."""
    row = started(admin_client)
    token = previewed(admin_client).context["token"]
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="root"))
    for address, data in [
        (FORM, filled()),
        (FORM, {"token": token}),
        (page_of(row, "press"), {"action": "cancel", "seen": "running"}),
    ]:
        assert strict.post(address, data).status_code == 403
    assert (state_of(row), Backfill.objects.count()) == ("running", 1)


@pytest.mark.parametrize("view", ["delete", "history"])
def test_a_record_stays(admin_client: Client, view: str) -> None:
    """Nobody deletes or edits what was done."""
    row = started(admin_client)
    assert admin_client.post(page_of(row, view), {"post": "yes"}).status_code == 403
    assert admin_client.post(page_of(row), {"state": "done"}).status_code == 403
    assert state_of(row) == "running"


def test_the_views_run_outside_of_atomic_requests(admin_client: Client) -> None:
    """They write on a connection of their own, and must not wait for the request's."""
    row = started(admin_client)
    for address in (LIST, ADD, FORM, page_of(row), page_of(row, "status"), page_of(row, "press")):
        kept = resolve(address).func._non_atomic_requests
        assert None in kept or "default" in kept, address


@pytest.mark.parametrize("object_id", ["99", "x", "9" * 40, "1_2"])
def test_there_is_no_such_backfill(admin_client: Client, object_id: str) -> None:
    """No 500 for an id that is no id, nor for a kind that is none."""
    started(admin_client)
    for view in ("status", "press"):
        assert admin_client.post(f"{LIST}{object_id}/{view}/").status_code == 404
    assert admin_client.get(f"{LIST}{object_id}/change/").status_code == 302
    assert admin_client.get(f"{ADD}{object_id}/").status_code == 404


def test_a_storage_that_cannot_be_read_is_explained(admin_client: Client) -> None:
    """Somebody forgot to migrate; the page says the command."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tailrace_backfill RENAME TO gone")
    for address in (LIST, f"{LIST}1/status/"):
        response = admin_client.get(address)
        assert response.status_code == 503
        assert "manage.py migrate tailrace" in response.content.decode()


# --- the list


def test_the_list_shows_who_did_what(admin_client: Client, make_staff: Staff) -> None:
    """The newest first; by pages; filtered by kind and state."""
    done = started(admin_client, steps="2")
    work(done)
    running = started(make_staff("run_backfill"), measurement="query")
    response = admin_client.get(LIST)
    assert [row.pk for row in response.context["cl"].result_list] == [running.pk, done.pk]
    page = response.content.decode()
    assert "run_backfill</td>" in page
    assert "root</td>" in page
    assert '<td class="field-written">2,000</td>' in page
    for query, expected in [
        ({"state": "done"}, [done.pk]),
        ({"state": "running", "kind": "slow"}, [running.pk]),
        ({"kind": "copy"}, []),
        ({"kind": "nonsense", "state": "x"}, []),
    ]:
        shown = admin_client.get(LIST, query).context["cl"].result_list
        assert [row.pk for row in shown] == expected, query
    assert admin_client.get(LIST, {"log__contains": "x"}).status_code == 400


def test_pages_of_a_long_list(admin_client: Client) -> None:
    """Every row once, whatever is started meanwhile."""
    now = datetime.now(UTC)
    Backfill.objects.bulk_create(
        Backfill(uid=f"{n:032x}", kind="slow", created_at=now) for n in range(70)
    )
    first = admin_client.get(LIST).context["cl"]
    started(admin_client)
    second = admin_client.get(LIST + first.older_link).context["cl"]
    ids = [row.pk for row in (*first.result_list, *second.result_list)]
    assert ids == list(range(70, 0, -1))


# --- the page


def test_the_page_from_start_to_end(admin_client: Client) -> None:
    """Figures, log and result are on the page, without a line of JavaScript."""
    row = started(admin_client, steps="4")
    shown = status(admin_client, row)
    assert (shown["phase"], shown["can"], shown["fraction"]) == ("planning", ["pause", "cancel"], 0)
    work(row)
    shown = status(admin_client, row)
    assert (shown["state"], shown["is_over"], shown["can"]) == ("done", True, [])
    assert (shown["fraction"], shown["figures"]["steps"]) == (1.0, "4 of 4")
    assert shown["figures"]["rows"] == "4,000 of about 4,000"
    assert ["Written", "4,000"] in shown["result"]
    assert ["Count and checksum", "equal at both ends: 4000:00000000000003fc"] in shown["result"]
    assert shown["notes"] == ["Next, look at request."]
    page = admin_client.get(page_of(row)).content.decode()
    for text in ("4,000 of about 4,000", "Next, look at request.", "started by root", "100.0 %"):
        assert text in page
    assert "slept through" not in page  # the checkbox was not ticked


def test_the_log_is_sent_when_it_has_changed(admin_client: Client) -> None:
    """The page says which it has."""
    row = started(admin_client, steps="2", is_loud="on")
    first = status(admin_client, row)
    assert "started by root" in first["log"]
    assert status(admin_client, row, log=first["log_key"])["log"] is None
    work(row)
    after = status(admin_client, row, log=first["log_key"])
    assert after["log"].count("slept through request") == 2


def test_figures_of_a_backfill_in_the_middle(admin_client: Client) -> None:
    """Rate and remaining time come from what was done of late."""
    row = started(admin_client, steps="10")
    engine = service.engine()
    engine.work(row.uid, 0)  # plans
    for _ in range(4):
        engine.work(row.uid, 0)
    shown = status(admin_client, row)
    assert shown["figures"]["steps"] == "4 of 10"
    assert (shown["figures"]["percent"], shown["fraction"]) == ("40.0 %", 0.4)
    assert shown["figures"]["rate"].endswith(" rows/s")
    assert shown["figures"]["remaining"].startswith("about ")
    assert shown["idle"] == ""


def test_the_page_says_when_no_worker_comes(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some seconds without a sign, and with what to run; not while a worker has it."""
    row = started(admin_client, steps="3")
    assert status(admin_client, row)["idle"] == ""
    then = datetime.now(UTC) - timedelta(seconds=75)
    line = f"{then:%Y-%m-%d %H:%M:%S} started by root"
    rows = Backfill.objects.filter(pk=row.pk)
    rows.update(created_at=then, log=line + "\n")
    assert status(admin_client, row)["idle"] == "No worker has done anything for 1 min 15 s."
    page = admin_client.get(page_of(row)).content.decode()
    assert f"manage.py tailrace_backfill work {row.uid[:12]}" in page
    rows.update(lease_ms=int(datetime.now(UTC).timestamp() * 1000) + 5000)
    assert status(admin_client, row)["idle"] == ""  # somebody plans it
    rows.update(lease_ms=0)
    service.engine().work(row.uid, 0)
    assert status(admin_client, row)["idle"] == ""  # planned just now
    rows.update(log=line + "\n")
    assert status(admin_client, row)["idle"] != ""
    service.store().claim(service.store().get(row.uid), "w", 30.0)
    assert status(admin_client, row)["idle"] == ""  # somebody has a step
    service.pause(row.uid)
    monkeypatch.setattr(backfills_progress, "IDLE_SECONDS", 0.0)
    assert status(admin_client, row)["idle"] == ""  # nobody is meant to


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "less than a second"),
        (1, "1 s"),
        (59.6, "1 min"),
        (3_600, "1 h"),
        (3_725, "1 h 2 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    """In the two largest units."""
    assert backfills_progress.duration(seconds) == text


# --- the buttons


def test_pause_resume_and_cancel(admin_client: Client, make_staff: Staff) -> None:
    """Each by another person; the log says whose hand it was."""
    row = started(admin_client, steps="3")
    other = make_staff("run_backfill")
    assert pressed(other, row, "pause", "running") == [
        "It is paused: steps that run come to their end."
    ]
    work(row)
    assert state_of(row) == "paused"
    assert status(admin_client, row)["can"] == ["resume", "cancel"]
    assert pressed(admin_client, row, "resume", "paused") == ["It goes on."]
    assert state_of(row) == "running"
    assert "What was done before stays done" in pressed(other, row, "cancel", "running")[0]
    assert state_of(row) == "cancelled"
    shown = status(admin_client, row)
    assert (shown["is_over"], shown["can"]) == (True, [])
    for line in ("paused by run_backfill", "running by root", "cancelled by run_backfill"):
        assert line in shown["log"]


@pytest.mark.parametrize(
    ("state", "action", "seen"),
    [
        ("paused", "pause", "running"),
        ("paused", "cancel", "running"),
        ("running", "resume", "paused"),
        ("running", "cancel", "paused"),
        ("running", "retry", "failed"),
        ("cancelled", "resume", "paused"),
        ("cancelled", "cancel", "cancelled"),
        ("cancelled", "retry", "failed"),
        ("done", "cancel", "running"),
        ("done", "pause", "running"),
        ("failed", "pause", "running"),
    ],
)
def test_a_tab_that_is_behind_changes_nothing(
    admin_client: Client, state: str, action: str, seen: str
) -> None:
    """It is told what has happened since, whatever it shows."""
    row = started(admin_client, steps="2")
    Backfill.objects.filter(pk=row.pk).update(state=state)
    log = service.progress(row.uid).log
    told = pressed(admin_client, row, action, seen)
    assert len(told) == 1
    if state != seen:
        assert told[0].startswith(f"It is {'planning' if state == 'running' else state} by now")
    assert "changed" in told[0]
    assert state_of(row) == state
    assert service.progress(row.uid).log == log


def test_two_people_press_at_once(
    admin_client: Client, make_staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked before either of them had done it; the database lets one of them."""
    row = started(admin_client)
    other = make_staff("run_backfill")
    real = service.progress
    before = real(row.uid)
    monkeypatch.setattr(service, "progress", lambda uid: before)
    first = pressed(admin_client, row, "pause", "running")
    second = pressed(other, row, "pause", "running")
    monkeypatch.undo()
    assert first == ["It is paused: steps that run come to their end."]
    assert "somebody was faster" in second[0]
    assert "\n".join(real(row.uid).log).count("paused by") == 1


@pytest.mark.parametrize(("action", "seen"), [("explode", "running"), ("", ""), ("pause", "")])
def test_buttons_that_there_are_none_of(admin_client: Client, action: str, seen: str) -> None:
    """A forged form does nothing."""
    row = started(admin_client)
    assert "changed" in pressed(admin_client, row, action, seen)[0]
    assert state_of(row) == "running"


def test_failed_steps_are_shown_and_retried(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With number, part and reason; the others are done, and stay so."""
    row = started(admin_client, steps="3", failing="1")
    work(row)
    shown = status(admin_client, row)
    assert (shown["state"], shown["is_over"], shown["can"]) == (
        "failed",
        False,
        ["cancel", "retry"],
    )
    assert shown["failures"] == [["1", "request 1", "request is refused"]]
    assert shown["figures"]["failed"] == "1"
    assert "request is refused" in admin_client.get(page_of(row)).content.decode()
    assert pressed(admin_client, row, "retry", "failed") == ["What failed is tried again."]
    assert pressed(admin_client, row, "retry", "failed")[0].startswith("It is running by now")
    parameters = row.parameters.replace('"failing":1', '"failing":-1')
    Backfill.objects.filter(pk=row.pk).update(parameters=parameters)
    work(row)
    shown = status(admin_client, row)
    assert (shown["state"], shown["failures"]) == ("done", [])
    assert ["Written", "3,000"] in shown["result"]


def test_a_plan_that_failed_can_be_made_again(admin_client: Client) -> None:
    """No step has failed, as there is none; the button works all the same."""
    row = started(admin_client, steps="0")
    work(row)
    shown = status(admin_client, row)
    assert shown["state"] == "failed"
    assert "there is nothing to plan" in shown["log"]
    assert pressed(admin_client, row, "retry", "failed") == ["What failed is tried again."]
    assert state_of(row) == "running"


def test_a_kind_that_has_gone_leaves_its_records(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages of an app that was uninstalled since still open."""
    row = started(admin_client)
    Backfill.objects.filter(pk=row.pk).update(kind="gone", parameters='{"a":[1,"x"],"b":null}')
    page = admin_client.get(page_of(row)).content.decode()
    assert '<th scope="row">a</th><td>1<br>x</td>' in page
    assert said(admin_client.get(LIST)) == []
    Backfill.objects.filter(pk=row.pk).update(kind="slow", parameters='{"steps":"many"}')
    assert "many" in admin_client.get(page_of(row)).content.decode()
