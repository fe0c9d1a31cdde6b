"""A measurement that moves to another backend while it comes in, as docs/backfills.md has it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from backfill.copy_site import CopySite, make_rows
from backfill.traffic import Traffic, wait_until_empty
from faults.harness import MEASUREMENT
from servers import RedisServer

pytestmark = pytest.mark.faults

HISTORY = 4_000
MakeSite = Callable[..., CopySite]


class Moving:
    """The site, and the drains of the backends that its settings name."""

    def __init__(self, site: CopySite) -> None:
        self.site = site
        self.drains: list[subprocess.Popen[bytes]] = []

    def deploy(self, **accepted: dict[str, list[str]]) -> None:
        """Restart with other settings: each backend, and what it does and does not accept."""
        for drain in self.drains:
            drain.terminate()
        for drain in self.drains:
            drain.wait(30)
        every = self.every = getattr(self, "every", dict(self.site.backends))
        self.site.backends = {
            name: {"BACKEND": every[name]["BACKEND"], "OPTIONS": every[name]["OPTIONS"], **which}
            for name, which in accepted.items()
        }
        self.drains = [
            self.site.start("manage", "tailrace_drain", "--loop", "--backend", name)
            for name in accepted
        ]

    def compare(self, end: str) -> subprocess.CompletedProcess[str]:
        """Compare both; what is still on its way to one of them differs, and is looked at again."""
        ends = ("--source", "old", "--target", "new", "--measurement", MEASUREMENT)
        done = self.site.backfill("compare", *ends, "--end", end)
        for _ in range(5):
            if self.site.latest()["state"] != "failed":
                break
            done = self.site.backfill("retry", self.site.latest()["uid"])
        return done

    def count(self, alias: str) -> int:
        """Return how many events a backend's own query API counts."""
        counted = self.site.python(
            "from tailrace.backends import get_backend\n"
            f"found = get_backend({alias!r}).aggregate({MEASUREMENT!r}, None, 'count')\n"
            "import json; print(json.dumps(found['result']))"
        )
        return int(json.loads(counted))


def test_from_sqlite_to_postgres_without_a_gap(
    make_site: MakeSite, own_redis_server: RedisServer
) -> None:
    """Dual writing, copy (killed once), compare, switch: each event is at the end there once."""
    site = make_site("sqlite-postgres", own_redis_server, is_dual=True)
    site.seed(make_rows(HISTORY, MEASUREMENT))
    moving = Moving(site)
    traffic = Traffic(site)

    moving.deploy(old={})
    traffic.start()
    moving.deploy(old={}, new={})
    end = datetime.now(UTC).isoformat()
    ends = ("--source", "old", "--target", "new", "--measurement", MEASUREMENT)
    small = ("--slice-rows", "1000")
    killed = site.backfill("copy", *ends, *small, fault="backfill_before_commit=kill:2")
    assert killed.returncode == -signal.SIGKILL
    done = site.backfill("work", site.latest()["uid"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"New '{MEASUREMENT}' events reach both" in done.stdout

    compared = moving.compare(end)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "compared and equal" in compared.stdout

    moving.deploy(old={"EXCLUDE": [MEASUREMENT]}, new={})
    traffic.stop()
    wait_until_empty(own_redis_server)
    assert moving.count("new") == HISTORY + traffic.sent
    assert moving.count("old") < HISTORY + traffic.sent
    new = [row[0] for row in site.events("new", MEASUREMENT)]
    assert len(new) == len(set(new)) == HISTORY + traffic.sent
    assert {row[0] for row in site.events("old", MEASUREMENT)} <= set(new)
