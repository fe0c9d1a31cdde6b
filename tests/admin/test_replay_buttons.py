"""Replay from the admin: what is ticked, and all that match."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import reverse

from admin import seed
from tailrace.backends.database import DatabaseBackend
from tailrace.django_integration.admin import replay_views
from tailrace.pipeline.errors import TransientBackendError

LIST = "/admin/tailrace/deadletter/"
Staff = Callable[..., Client]


def replay_url(query: str = "") -> str:
    return reverse("admin:tailrace_deadletter_replay") + query


def tick(client: Client, *ids: object, **more: str) -> Any:
    """Tick letters and press Go."""
    data = {"action": "replay", "index": "0", "_selected_action": list(ids), **more}
    return client.post(LIST, data, follow=True)


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_what_is_ticked_is_replayed(admin_client: Client) -> None:
    """Those letters and no others, and the page tells how it went."""
    seed.park(range(4))
    assert said(tick(admin_client, 2, 4)) == ["Replayed 2 dead letters: 2 events are stored now."]
    books = seed.books()
    assert books["numbers"] == [1, 3]
    assert (books["stored"], books["dead_lettered"], books["is_balanced"]) == (2, 2, True)
    assert said(tick(admin_client, 2)) == ["Nothing was waiting: somebody else has replayed it."]


def test_select_across_means_no_more_than_what_is_ticked(admin_client: Client) -> None:
    """The list offers no such thing; a forged request does not get it either."""
    seed.park(range(4))
    tick(admin_client, 1, select_across="1")
    tick(admin_client, "x", "-1", "9" * 40, select_across="1")
    assert seed.books()["numbers"] == [0]


def test_what_does_not_go_through_is_told(admin_client: Client) -> None:
    """With the reason, and it stays."""
    seed.refuse_poison()
    seed.park([0], fields={"poison": "<script>x</script>"})
    seed.park([1], rejected="field 'amount' is nan")
    seed.park([2])
    success, warning = said(tick(admin_client, 1, 2, 3))
    assert success == "Replayed 1 dead letters: 1 events are stored now."
    assert warning.startswith("2 still wait. 1: poison is refused; 2: it was refused when it was")
    assert seed.books()["waiting"] == 2


def test_a_replay_needs_its_permission(make_staff: Staff) -> None:
    """Who may look may not replay: not by the action, not by the page, not by a forged post."""
    seed.park(range(2))
    viewer = make_staff("view_deadletter")
    page = viewer.get(LIST).content.decode()
    assert "Replay all" not in page
    assert "Replay selected" not in page
    assert "Replay this" not in viewer.get(f"{LIST}1/change/").content.decode()
    tick(viewer, 1, 2)
    assert viewer.get(replay_url()).status_code == 403
    assert viewer.post(replay_url()).status_code == 403
    assert Client().post(replay_url()).status_code == 302
    assert seed.books()["numbers"] == []
    replayer = make_staff("view_deadletter", "change_deadletter")
    page = replayer.get(LIST).content.decode()
    assert "Replay all that match" in page
    assert "Replay selected" in page
    assert "Replay this" in replayer.get(f"{LIST}1/change/").content.decode()
    tick(replayer, 1)
    assert replayer.post(replay_url()).status_code == 302
    assert seed.books()["numbers"] == [0, 1]


def test_the_buttons_need_the_csrf_token(admin_client: Client) -> None:
    """Another site cannot press them."""
    seed.park([1])
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies
    assert strict.post(replay_url()).status_code == 403
    data = {"action": "replay", "index": "0", "_selected_action": [1]}
    assert strict.post(LIST, data).status_code == 403
    assert seed.books()["numbers"] == []


def test_all_that_match(admin_client: Client) -> None:
    """The page shows which, then does it for the filters of the list."""
    seed.park(range(3), "checkout", "too long")
    seed.park(range(3, 6), "checkout", "no column")
    seed.park([6], "request", "too long")
    query = "?measurement=checkout&reason=long"
    page = admin_client.get(LIST + query)
    assert page.context["replay_url"] == replay_url(query)
    asked = admin_client.get(replay_url(query))
    assert [letter_id for letter_id, *_ in asked.context["letters"]] == [1, 2, 3]
    assert seed.books()["numbers"] == []  # a GET changes nothing
    done = admin_client.post(replay_url(query), follow=True)
    assert said(done) == ["Replayed 3 dead letters: 3 events are stored now."]
    assert done.request["QUERY_STRING"] == query[1:]
    assert seed.books()["numbers"] == [0, 1, 2]
    admin_client.post(replay_url())
    assert seed.books()["numbers"] == list(range(7))
    assert "Nothing that matches waits" in admin_client.get(replay_url()).content.decode()


def test_what_takes_too_long_for_a_request_is_told(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request runs for ever; nothing of it is lost."""
    seed.park(range(2))
    monkeypatch.setattr(replay_views, "REPLAY_SECONDS", 0.0)
    messages = said(admin_client.post(replay_url(), follow=True))
    assert messages == [
        "The time was up before all had their turn. Go on here, or by tailrace_replay."
    ]
    assert seed.books()["waiting"] == 2


def test_a_storage_that_is_busy_is_told(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message, not a 500."""
    seed.park(range(2))

    def transaction(self: object, shard: int) -> object:
        raise TransientBackendError("database 'default': locked")

    monkeypatch.setattr(DatabaseBackend, "transaction", transaction)
    assert "locked What was replayed before is stored" in said(tick(admin_client, 1))[0]


def test_a_host_with_atomic_requests(
    admin_databases: Callable[..., None], admin_client: Client
) -> None:
    """The replay's own connection does not wait for a transaction of the request."""
    from django.db import connections

    seed.park(range(2))
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
    tick(admin_client, 1)
    admin_client.post(replay_url())
    assert seed.books()["numbers"] == [0, 1]


def test_letters_of_each_backend_go_to_it(
    admin_databases: Callable[..., None], admin_client: Client
) -> None:
    """Two backends in one database: each replays its own letters, by the filter too."""
    backend = {"BACKEND": "tailrace.backends.database.DatabaseBackend"}
    with override_settings(
        TAILRACE={"ENABLED": False, "BACKENDS": {"default": backend, "second": backend}}
    ):
        seed.park(range(2))
        seed.park(range(2, 4), backend="second")
        assert "By backend" in admin_client.get(LIST).content.decode()
        admin_client.post(replay_url("?backend=second"))
        assert seed.books()["numbers"] == [2, 3]
        assert seed.books("second")["dead_lettered"] == 0
        assert seed.books()["dead_lettered"] == 2
        tick(admin_client, 1)
        assert seed.books()["numbers"] == [0, 2, 3]
        assert seed.books()["is_balanced"]
