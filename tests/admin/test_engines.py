"""Every page on every engine: JSON, cursors and look-ups by key are each engine's own."""

from __future__ import annotations

import json

from fix_admin_site import AdminSite

VISIT = """
import json
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import setup_test_environment
from admin.conftest import MODELS
from admin.test_speed import ADDRESSES, TRACE
setup_test_environment()  # for response.context
client = Client()
client.force_login(User.objects.create_superuser("root", "root@example.com", "pw"))
for name in ("a", "b", "exception"):
    fields = {"fingerprint": "p0"} if name == "exception" else {}
    seed.store([seed.event(n, name, trace_id=TRACE, fields=fields) for n in range(60)])
    seed.park(range(60), name)
visited = {}
for model, query in ADDRESSES:
    address = f"/admin/tailrace/{model}/?{query}"
    for link in ("older_link", "newer_link", None):
        response = client.get(address)
        rows = response.context["cl"].result_list if response.context else []
        visited[address] = [response.status_code, len(rows)]
        following = link and getattr(response.context["cl"], link)
        if not following:
            break
        address = f"/admin/tailrace/{model}/{following}"
    for row in rows[:1]:
        address = f"/admin/tailrace/{model}/{row.pk}/change/"
        visited[address] = [client.get(address).status_code, 1]
visited["nul"] = [client.get("/admin/tailrace/event/?measurement=a%00").status_code, 0]
response = client.post("/admin/tailrace/deadletter/replay/?measurement=a", follow=True)
messages = [str(message) for message in response.context["messages"]]
print(json.dumps({"visited": visited, "messages": messages}))
"""


def test_every_page(admin_site: AdminSite) -> None:
    """Lists, the pages after and before, details, and a replay."""
    shown = json.loads(admin_site.python(VISIT).splitlines()[-1])
    visited = shown["visited"]
    assert visited.pop("nul") == [400, 0]
    assert {address: seen for address, seen in visited.items() if seen[0] != 200} == {}
    assert visited["/admin/tailrace/event/?"] == [200, 50]
    assert visited["/admin/tailrace/event/?tag=plan%3Dfree"] == [200, 0]
    assert visited["/admin/tailrace/deadletter/?measurement=a&reason=full"] == [200, 50]
    assert shown["messages"] == ["Replayed 60 dead letters: 60 events are stored now."]
    books = admin_site.books()
    assert (books["dead_lettered"], books["is_balanced"]) == (120, True)
