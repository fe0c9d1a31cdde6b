"""Telemetry is what strangers sent: none of it becomes markup, on any page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from admin import seed
from admin.conftest import MODELS
from tailrace.backends import get_backend
from tailrace.django_integration.models import Event, LedgerEntry, ProducerMark
from tailrace.pipeline.dead_letter import DeadLetter

MARK = "zqxmark"
PAYLOADS = [
    f"<script>{MARK}()</script>",
    f'"><img src=x onerror={MARK}()>',
    f"'><svg/onload={MARK}()>",
    f"</textarea></pre></style></title><iframe src=javascript:{MARK}()></iframe>",
    f"javascript:{MARK}()",
    f"{{{{ {MARK} }}}}{{% {MARK} %}}",
    f"<!--{MARK}--><b>{MARK}</b>&lt;script&gt;",
    f"\u202e{MARK}\x1b[31m\n<a href=//{MARK}.example>x</a>",
]
ALLOWED_IN = {"title", "value", "href", "aria-label", "action"}


class Document(HTMLParser):
    """Elements with their attributes, and what the text is within them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self._open = [""]
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1], data))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def dangers(markup: str) -> list[str]:
    """Where a payload is something else than text."""
    page = Document(markup)
    found = [f"comment {text}" for text in page.comments if MARK in text]
    found += [
        f"in <{tag}>" for tag, text in page.texts if tag in ("script", "style") and MARK in text
    ]
    for tag, attributes in page.elements:
        if MARK in tag or (
            tag in ("iframe", "svg", "b") and any(MARK in value for value in attributes.values())
        ):
            found.append(f"<{tag}>")
        for name, value in attributes.items():
            if MARK in name or (MARK in value and name not in ALLOWED_IN):
                found.append(f"{tag}[{name}]")
            if name in ("href", "src", "action") and not value.startswith(("/", "?", "#", "")):
                found.append(f"{tag}[{name}={value[:40]}]")
            if value.lower().startswith("javascript:") and name != "value" and name != "title":
                found.append(f"{tag}[{name}]")
    return found


def elements(markup: str) -> list[str]:
    """The names of a page's elements, in order."""
    return [tag for tag, _ in Document(markup).elements]


@pytest.fixture
def poisoned(admin_client: Client) -> Client:
    """A browser of an admin whose storage is full of payloads, in every place there is."""
    for index, text in enumerate(PAYLOADS):
        name = text[:100].replace("\n", " ")
        more: dict[str, Any] = {
            "tags": {text[:100]: text, "route": text, "type": text},
            "fields": {text[:100]: text, "path": text, "user_agent": text, "nested": 1},
        }
        seed.store([seed.event(index, name, trace_id=text[:64], **more)])
        fields = {"fingerprint": text[:60], "message": text, "location": text}
        seed.store([seed.event(index, "exception", tags={"type": text}, fields=fields)])
        seed.park([index], name, text, trace_id=text[:64], **more)
        frame = text.encode() * 3
        seed.park_letters(
            [DeadLetter(measurement=name, reason=text, frame=frame, entry_id=name[:40])]
        )
        LedgerEntry.objects.create(
            backend=text[:60], shard=0, minute=60, measurement=name, outcome=text[:60], amount=1
        )
        ProducerMark.objects.create(
            backend=text[:60], shard=0, producer=text[:20], sequence=1, sent={text: 1}
        )
    assert get_backend()
    return admin_client


def addresses(client: Client) -> list[str]:
    """Every page there is, and lists with payloads in their filters."""
    found = []
    for model in MODELS:
        listed = f"/admin/tailrace/{model}/"
        rows = client.get(listed).context["cl"].result_list
        assert rows
        found += [listed, *(f"{listed}{row.pk}/change/" for row in rows)]
    return [*found, "/admin/tailrace/deadletter/replay/", "/admin/"]


def test_payloads_are_text_on_every_page(poisoned: Client) -> None:
    """The DOM has no element and no attribute that a payload made."""
    seen = 0
    for address in addresses(poisoned):
        page = poisoned.get(address).content.decode()
        assert dangers(page) == [], address
        seen += MARK in page
    assert seen > 40


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_in_a_query_are_text(poisoned: Client, payload: str) -> None:
    """What a link to us carries shows up in inputs, links and messages only as text."""
    lists = {
        "event": ("measurement", "tag", "q", "since", "until", "database"),
        "deadletter": ("measurement", "reason", "state", "backend"),
    }
    for model, names in lists.items():
        for name in names:
            response = poisoned.get(f"/admin/tailrace/{model}/", {name: payload}, follow=True)
            assert dangers(response.content.decode()) == [], name
    query = {"measurement": payload, "reason": payload}
    for method in (poisoned.get, poisoned.post):
        response = method("/admin/tailrace/deadletter/replay/", query, follow=True)
        assert dangers(response.content.decode()) == []


def test_messages_of_a_replay_are_text(poisoned: Client) -> None:
    """The storage's words, with a payload in them, come back as a message."""
    seed.park([900], rejected=PAYLOADS[0])
    letter = poisoned.get("/admin/tailrace/deadletter/").context["cl"].result_list[0].pk
    data = {"action": "replay", "index": "0", "_selected_action": [letter]}
    page = poisoned.post("/admin/tailrace/deadletter/", data, follow=True).content.decode()
    assert "still wait" in page
    assert dangers(page) == []


def test_the_search_for_dangers_finds_them() -> None:
    """Each payload, written out as it is, is one."""
    for payload in PAYLOADS[:4] + PAYLOADS[6:7]:
        assert dangers(f"<p title='x'>{payload}</p>"), payload
    assert dangers(f'<a href="javascript:{MARK}()">x</a>')
    assert not dangers(f"<p title='{MARK}'>{MARK} &lt;script&gt;</p>")


def test_a_long_value_is_cut_in_the_list_and_whole_on_its_page(admin_client: Client) -> None:
    """A list of fifty rows stays small whatever was sent."""
    seed.store([seed.event(n, fields={"body": "y" * 65_536}) for n in range(50)])
    assert len(admin_client.get("/admin/tailrace/event/").content) < 200_000
    pk = Event.objects.latest("id").pk
    assert "y" * 65_536 in admin_client.get(f"/admin/tailrace/event/{pk}/change/").content.decode()
