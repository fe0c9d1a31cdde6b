"""SIGKILL at each named point of a backfill: no step lost, nothing doubled."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

import pytest
from backfill.copy_site import CopySite, make_rows

import tailrace.backends.base
import tailrace.django_integration.backfills.service
import tailrace.pipeline.drain

pytestmark = pytest.mark.faults

POINTS = [
    "backfill_mid_plan",
    "backfill_after_claim",
    "backfill_after_read",
    "backfill_mid_write",
    "backfill_before_commit",
    "backfill_after_commit",
    "backfill_before_done",
    "backfill_after_done",
    "backfill_before_finish",
]
ONCE = {"backfill_mid_plan", "backfill_before_finish"}
OF_SINKS = {
    "backfill_after_read",
    "backfill_mid_write",
    "backfill_before_commit",
    "backfill_after_commit",
}
STEPS = 3


def test_every_fault_point_of_backfills_has_a_case() -> None:
    """Fails when someone adds ``fault("backfill_...")``: add the name above."""
    folders = {
        Path(module.__file__ or "").parent
        for module in (tailrace.backends.base, tailrace.pipeline.drain)
    }
    texts = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'\bfault\("(backfill_\w+)"\)', text)}
    assert named == set(POINTS)


@pytest.mark.parametrize(
    ("point", "pair"),
    [(point, "postgres-postgres") for point in POINTS]
    + [(point, "sqlite-postgres") for point in POINTS if point in OF_SINKS],
)
def test_killed_at(make_site: object, pair: str, point: str, seed: int) -> None:
    """The step at hand is taken again after its lease, and each event is there once."""
    site: CopySite = make_site(pair)  # type: ignore[operator]
    site.seed(make_rows(STEPS * 1_000))
    passes = 0 if point in ONCE else random.Random(seed).randrange(STEPS)
    killed = site.copy(fault=f"{point}=kill:{passes}")
    assert killed.returncode == -signal.SIGKILL, f"{point} was never reached: {killed.stderr}"
    uid = site.latest()["uid"]
    done = site.backfill("work", uid)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.events("new") == site.events("old")
    result = site.latest()["result"]
    assert (result["rows_read"], result["rows_written"]) == (STEPS * 1_000, STEPS * 1_000)
    assert result["source_digest"] == result["target_digest"]


def test_workers_killed_again_and_again_beside_each_other(make_site: object, seed: int) -> None:
    """Two workers at a time, each killed at a moment of its own."""
    site: CopySite = make_site("postgres-postgres")  # type: ignore[operator]
    site.seed(make_rows(20_000))
    site.copy("--detach", "--workers", "3", "--no-throttle")
    uid, randomly = site.latest()["uid"], random.Random(seed)
    kills = 0
    deadline = time.monotonic() + 90
    while site.latest()["state"] == "running":
        assert time.monotonic() < deadline, site.latest()
        workers = [
            site.start("manage", "tailrace_backfill", "work", uid, fault=_some_fault(randomly))
            for _ in range(2)
        ]
        for worker in workers:
            kills += worker.wait(60) == -signal.SIGKILL
    assert site.latest()["state"] == "done"
    assert kills >= 2, "nobody was killed: the test proves nothing"
    assert site.events("new") == site.events("old")
    assert site.latest()["result"]["rows_written"] == 20_000


def _some_fault(randomly: random.Random) -> str:
    points = [point for point in POINTS if point not in ONCE]
    return f"{randomly.choice(points)}=kill:{randomly.randrange(4)}"
