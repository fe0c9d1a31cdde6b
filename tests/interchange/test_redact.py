"""Redaction of history, by the command, on real databases."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from uuid import NAMESPACE_OID, uuid5

from backfill.copy_site import START, Row

from interchange.file_site import FileSite

SECRET = "K-123456"
SEED = """
from tailrace.django_integration.models import DeadLetter, ExceptionGroup
from datetime import datetime, UTC
DeadLetter.objects.create(backend="old", shard=0, measurement="checkout", reason="no: K-123456",
    payload={"measurement": "checkout", "time_ns": 1, "tags": {"c": "K-123456"},
             "fields": {"email": "a@b.c"}, "id": "00"})
DeadLetter.objects.create(backend="old", shard=0, measurement="other", reason="K-999999")
ExceptionGroup.objects.create(fingerprint="f", type="E", message="K-123456 failed",
    first_seen=datetime.now(UTC), last_seen=datetime.now(UTC))
"""
SHOW = """
import json
from tailrace.django_integration.models import DeadLetter, ExceptionGroup, Backfill, BackfillStep
print(json.dumps({
    "letters": list(DeadLetter.objects.order_by("id").values("reason", "payload")),
    "groups": list(ExceptionGroup.objects.values("message", "count")),
    "records": repr(list(Backfill.objects.values())) + repr(list(BackfillStep.objects.values())),
}))
"""


def rows(measurement: str, count: int) -> list[Row]:
    return [
        (
            uuid5(NAMESPACE_OID, f"{measurement} {number}"),
            measurement,
            START + timedelta(seconds=number),
            {"plan": "pro", "c": SECRET if number % 10 == 0 else "K-1"},
            {"email": "a@b.c", "n": number, "note": f"x {SECRET} y" if number % 5 == 0 else "x"},
            "",
        )
        for number in range(count)
    ]


def test_a_rule_is_applied_to_history_once_and_for_good(site: FileSite) -> None:
    site.seed(rows("checkout", 600))
    site.seed(rows("other", 50))
    site.python(SEED)
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    arguments = ("--backend", "old", "--measurement", "checkout", "--hashes", digest)
    dry = site.backfill("--json", "redact", *arguments, "--dry-run")
    estimate = json.loads(dry.stdout)["estimate"]
    assert estimate["rows"] == 602 - 1  # events, and the letter of this measurement
    assert estimate["notes"] == ["Of the newest 600 events looked at, 120 would be changed."]
    others = site.events("old", "other")
    result = site.run("redact", *arguments)
    assert (result["rows_read"], result["rows_written"]) == (601, 121)
    events = site.events("old", "checkout")
    assert len(events) == 600
    assert SECRET not in repr(events)
    found = {json.loads(event[4])["n"]: json.loads(event[4]) for event in events}
    assert found[5] == {"email": "a@b.c", "n": 5, "note": "x *** y"}
    assert found[6] == {"email": "a@b.c", "n": 6, "note": "x"}
    assert site.events("old", "other") == others
    again = site.run("redact", *arguments)
    assert again["rows_written"] == 0
    assert site.events("old", "checkout") == events
    shown = json.loads(site.python(SHOW))
    assert shown["letters"][0]["reason"] == "no: ***"
    assert shown["letters"][0]["payload"]["tags"] == {"c": "***"}
    assert shown["letters"][0]["payload"]["id"] == "00"
    assert shown["groups"] == [{"message": "K-123456 failed", "count": 0}]
    assert SECRET not in shown["records"]


def test_all_measurements_by_name_and_pattern_within_a_window(sqlite_site: FileSite) -> None:
    site = sqlite_site
    site.seed(rows("checkout", 100))
    site.seed(rows("other", 100))
    site.python(SEED)
    arguments = ("--names", "email", "--pattern", "K-[0-9]{6}", "--backend", "old")
    site.run("redact", *arguments, "--start", "2026-01-01T00:00:50Z")
    for measurement in ("checkout", "other"):
        events = site.events("old", measurement)
        before = [event for event in events if event[2].minute == 0 and event[2].second < 50]
        after = [event for event in events if event not in before]
        assert (len(before), len(after)) == (50, 50)
        assert all("a@b.c" in event[4] for event in before)
        assert not any("a@b.c" in event[4] or SECRET in repr(event) for event in after)
    shown = json.loads(site.python(SHOW))
    assert SECRET not in repr(shown["letters"]) + repr(shown["groups"])
    assert shown["letters"][0]["payload"]["fields"] == {"email": "***"}


def test_what_cannot_be_redacted_says_why(sqlite_site: FileSite) -> None:
    for arguments, reason in [
        (("--names", "email"), "nothing in this selection"),
        ((), "what is to be redacted"),
        (("--pattern", "(a+)+b"), "for ever"),
    ]:
        done = sqlite_site.backfill("redact", "--backend", "old", *arguments)
        assert done.returncode != 0
        assert reason in done.stderr
