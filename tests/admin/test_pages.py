"""The pages as a person sees them: lists, filters, details, permissions, databases."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client, RequestFactory, override_settings
from django.urls import resolve, reverse

from admin import seed
from admin.conftest import MODELS
from tailrace.django_integration.models import DeadLetter, Event, ExceptionGroup
from tailrace.pipeline.context import SUPPRESSED, current_trace
from tailrace.pipeline.dead_letter import DeadLetter as Letter

Databases = Callable[..., None]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def url(model: str, *args: object, **query: str) -> str:
    view = "change" if args else "changelist"
    path = reverse(f"admin:tailrace_{model}_{view}", args=args)
    return path + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")


def numbers(client: Client, address: str) -> list[int]:
    """The numbers of the events that a list shows, in its order."""
    response = client.get(address)
    assert response.status_code == 200, response
    return [event.fields["n"] for event in response.context["cl"].result_list]


def links(client: Client, address: str) -> dict[str, str]:
    """The links below a list."""
    cl = client.get(address).context["cl"]
    found = {"newest": cl.newest_link, "newer": cl.newer_link, "older": cl.older_link}
    path = address.partition("?")[0]
    return {name: path + link for name, link in found.items() if link}


def store_some() -> None:
    """A trace of a request with two queries, and 60 events of others."""
    ms = 1_000_000
    request = {"method": "GET", "status": "200", "route": "api/items/"}
    seed.store(
        [
            seed.event(0, "request", time_ns=seed.NOW_NS, tags=request, trace_id=TRACE),
            seed.event(2, "query", time_ns=seed.NOW_NS + 12_345_678, trace_id=TRACE),
            seed.event(1, "query", time_ns=seed.NOW_NS + 5 * ms, trace_id=TRACE),
        ]
    )
    seed.store([seed.event(n, time_ns=seed.NOW_NS + n * ms) for n in range(40, 100)])


def test_events_by_time_in_pages(admin_client: Client) -> None:
    """Newest first over all measurements; older and newer links lead through all of them."""
    store_some()
    first = url("event")
    assert numbers(admin_client, first) == list(range(99, 49, -1))
    older = links(admin_client, first)["older"]
    # 12.3 ms and 5 ms after the request, in the order of time and not of storage
    assert numbers(admin_client, older) == [*range(49, 39, -1), 2, 1, 0]
    assert set(links(admin_client, older)) == {"newest", "newer"}
    assert numbers(admin_client, links(admin_client, older)["newer"]) == list(range(99, 49, -1))
    assert links(admin_client, links(admin_client, older)["newer"]).keys() <= {"newest", "older"}


def test_event_filters(admin_client: Client) -> None:
    """Measurement, time range, tag or field, and a trace by its id."""
    store_some()
    assert numbers(admin_client, url("event", measurement="query")) == [2, 1]
    assert numbers(admin_client, url("event", q=TRACE)) == [2, 1, 0]
    assert numbers(admin_client, url("event", q=TRACE[:-1])) == []
    assert numbers(admin_client, url("event", q=TRACE, measurement="request")) == [0]
    assert numbers(admin_client, url("event", tag="method%3DGET")) == [0]
    assert numbers(admin_client, url("event", tag="%20n%20%3D%2077")) == [77]
    assert numbers(admin_client, url("event", tag="method%3Dget")) == []
    start = Event.objects.get(fields__n=98).time.isoformat().replace("+00:00", "")
    end = Event.objects.get(fields__n=99).time.isoformat().replace("+00:00", "")
    assert numbers(admin_client, url("event", since=start)) == [99, 98]
    assert numbers(admin_client, url("event", since=start, until=end)) == [98]


@pytest.mark.parametrize(
    ("query", "message"),
    [({"tag": "method"}, "Write it as name=value."), ({"since": "soon"}, "is no time; write")],
)
def test_a_filter_that_makes_no_sense_says_so(
    admin_client: Client, query: dict[str, str], message: str
) -> None:
    """It shows no rows, rather than all of them."""
    store_some()
    response = admin_client.get(url("event", **query))
    assert message in response.content.decode()
    assert response.context["cl"].result_list == []


@pytest.mark.parametrize(
    "query",
    ["tags__contains=x", "measurement__contains=a", "before=x", "fields__n=1", "id=1", "tag=a%00"],
)
def test_look_ups_of_a_visitors_own_are_refused(admin_client: Client, query: str) -> None:
    """They would scan the table; the answer is an error or the plain list, and no 500."""
    response = admin_client.get(f"{url('event')}?{query}")
    assert response.status_code in (302, 400)


def test_a_filter_drops_the_place_in_the_list_and_keeps_the_others(admin_client: Client) -> None:
    """A cursor of one list is nothing to another one."""
    store_some()
    older = links(admin_client, url("event", measurement="checkout"))["older"]
    page = admin_client.get(older).content.decode()
    hrefs = re.findall(r'href="\?([^"]*)"', page.partition('id="changelist-filter"')[2])
    assert hrefs
    assert not any("before=" in href for href in hrefs)
    assert '<input type="hidden" name="measurement" value="checkout">' in page


def test_the_page_of_an_event_shows_its_trace(admin_client: Client) -> None:
    """The other events of the trace, by time, each with its distance from the first one."""
    store_some()
    event = Event.objects.get(fields__n=1)
    response = admin_client.get(url("event", event.pk))
    trace = response.context["trace"]
    assert [(one["measurement"], one["offset"], one["is_this"]) for one in trace] == [
        ("request", "+0.000 ms", False),
        ("query", "+5.000 ms", True),
        ("query", "+12.345 ms", False),
    ]
    page = response.content.decode()
    assert str(event.uid) in page
    assert TRACE in page
    without = admin_client.get(url("event", Event.objects.get(fields__n=50).pk))
    assert without.context["trace"] == []


def test_exception_groups_lead_to_their_events(admin_client: Client) -> None:
    """The list by last seen; the page with the latest ones; a link to all, however old."""
    hour = 3_600 * 10**9
    seed.store(
        [
            seed.event(
                n,
                "exception",
                time_ns=seed.NOW_NS + n * hour,
                tags={"type": f"E{n % 2}"},
                fields={"fingerprint": f"print{n % 2}", "message": f"m{n}", "location": "a.b:1"},
            )
            for n in range(20)
        ]
    )
    response = admin_client.get(url("exceptiongroup"))
    groups = response.context["cl"].result_list
    assert [(group.type, group.count) for group in groups] == [("E1", 10), ("E0", 10)]
    page = admin_client.get(url("exceptiongroup", groups[1].pk))
    assert page.context["message"] == "m18"
    assert len(page.context["latest"]) == 5
    assert numbers(admin_client, page.context["events_url"]) == list(range(18, -1, -2))


def test_dead_letters(admin_client: Client) -> None:
    """Waiting ones by default; by state, measurement and reason; events and frames in detail."""
    seed.park(range(3), "checkout", "too long")
    seed.park([3], "request", "no such column")
    frame = Letter(measurement="b", reason="corrupt", frame=b"TR\x00<i>" * 300, events=4)
    seed.park_letters([frame])
    DeadLetter.objects.filter(pk=1).update(replayed_at="2026-01-01T00:00Z")

    def ids(**query: str) -> list[int]:
        response = admin_client.get(url("deadletter", **query))
        return [letter.pk for letter in response.context["cl"].result_list]

    assert ids() == [5, 4, 3, 2]
    assert ids(state="replayed") == [1]
    assert ids(state="all") == [5, 4, 3, 2, 1]
    assert ids(state="all", measurement="checkout") == [3, 2, 1]
    assert ids(measurement="checkout") == [3, 2]
    assert ids(reason="column") == [4]
    assert "1.8 KiB" in admin_client.get(url("deadletter")).content.decode()
    detail = admin_client.get(url("deadletter", 5))
    assert "54 52 00 3c 69 3e" in detail.content.decode()
    assert ("amount", "12.5", False) in admin_client.get(url("deadletter", 2)).context["fields"]


@pytest.mark.parametrize("model", MODELS)
def test_nobody_changes_anything_here(
    admin_client: Client, make_staff: Callable[..., Client], model: str
) -> None:
    """Not even a superuser; and nobody looks without permission."""
    store_some()
    seed.park([1])
    ExceptionGroup.objects.create(
        fingerprint="x", type="E", first_seen="2026-01-01T00:00Z", last_seen="2026-01-01T00:00Z"
    )
    add = reverse(f"admin:tailrace_{model}_add")
    for path in (add, url(model, 1), url(model, 1).replace("change", "delete")):
        assert admin_client.post(path, {"measurement": "x", "post": "yes"}).status_code == 403
    assert admin_client.get(add).status_code == 403
    assert admin_client.get(url(model, 1).replace("change", "history")).status_code == 403
    assert admin_client.get(url(model)).status_code == 200
    assert make_staff().get(url(model)).status_code == 403
    viewer = make_staff(f"view_{model}")
    assert viewer.get(url(model)).status_code == 200
    assert Client().get(url(model)).status_code == 302  # to the login


@pytest.mark.parametrize("object_id", ["999", "x", "9" * 40, "1_2", "../1"])
def test_a_page_of_nothing_goes_back_to_the_index(admin_client: Client, object_id: str) -> None:
    """No 500 for an id that is no id."""
    response = admin_client.get(f"/admin/tailrace/event/{object_id}/change/")
    assert response.status_code == 302


def test_several_databases(admin_databases: Databases, admin_client: Client) -> None:
    """A selector where backends store in more than one; every link stays in its database."""
    admin_databases("telemetry")
    devices = {
        "BACKEND": "tailrace.backends.django_db.DjangoDBBackend",
        "OPTIONS": {"ALIAS": "telemetry"},
    }
    default = {"BACKEND": "tailrace.backends.database.DatabaseBackend"}
    store_some()
    assert "By database" not in admin_client.get(url("event")).content.decode()
    with override_settings(
        TAILRACE={"ENABLED": False, "BACKENDS": {"default": default, "devices": devices}}
    ):
        seed.store([seed.event(n, "weather", trace_id=TRACE) for n in range(60)], backend="devices")
        page = admin_client.get(url("event")).content.decode()
        assert "database=telemetry" in page.partition("By database")[2]
        there = url("event", database="telemetry")
        assert numbers(admin_client, there) == list(range(59, 9, -1))
        assert numbers(admin_client, links(admin_client, there)["older"]) == list(range(9, -1, -1))
        content = admin_client.get(there).content.decode()
        detail = re.search(r'href="(/admin/tailrace/event/\d+/change/[^"]*)"', content)
        assert detail is not None
        assert detail[1].endswith("?database=telemetry")
        shown = admin_client.get(detail[1]).context
        assert len(shown["trace"]) == 60
        assert "database=telemetry" in shown["trace"][0]["url"]
        assert numbers(admin_client, shown["trace_url"].replace("&amp;", "&"))[0] == 59
        assert numbers(admin_client, url("event", database="nonsense"))[0] == 99
    connections["telemetry"].close()


def test_a_storage_that_cannot_be_read_is_explained(admin_client: Client) -> None:
    """Somebody forgot to migrate; the page says the command."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tailrace_event RENAME TO gone")
    response = admin_client.get(url("event"))
    assert response.status_code == 503
    assert "manage.py migrate tailrace --database=default" in response.content.decode()


def test_the_pages_leave_no_telemetry(admin_client: Client) -> None:
    """Every query of ours runs where recording is off, the lazy ones of templates too."""
    store_some()
    seed.park([1])
    seen: list[tuple[bool, str]] = []

    def spy(execute: Callable[..., object], sql: str, *args: object) -> object:
        seen.append((current_trace() is SUPPRESSED, sql))
        return execute(sql, *args)

    with connection.execute_wrapper(spy):
        for address in (url("event"), url("event", 1), url("deadletter"), url("ledgerentry")):
            admin_client.get(address)
    ours = [is_off for is_off, sql in seen if "tailrace_" in sql]
    assert len(ours) > 10
    assert all(ours)


@pytest.mark.parametrize("model", MODELS)
def test_the_views_run_outside_of_atomic_requests(admin_databases: Databases, model: str) -> None:
    """A replay writes on its own connection, and must not wait for the request's transaction."""
    views = [resolve(url(model)).func, resolve(url(model, 1)).func]
    if model == "deadletter":
        views.append(resolve(reverse("admin:tailrace_deadletter_replay")).func)
    for view in views:
        assert None in view._non_atomic_requests or "default" in view._non_atomic_requests


def test_our_own_page_needs_no_request_attributes_that_hosts_may_lack(
    admin_databases: Databases,
) -> None:
    """The list works for a request that did not come through a server, as hosts' tests make."""
    from django.contrib import admin

    request = RequestFactory().get(url("event"))
    request.user = User.objects.create_superuser("root")
    model_admin = admin.site.get_model_admin(Event)
    assert model_admin.changelist_view(request).status_code == 200
