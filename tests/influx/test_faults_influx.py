"""SIGKILL where InfluxDB and the books differ: the points are the same as without it."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.harness import MEASUREMENT, Site
from influx.servers import InfluxAddress
from influx.stored import events_in
from servers import RedisServer

from tailrace.backends.influx.client import InfluxApi, Server
from tailrace.backends.influx.server import Buckets

pytestmark = pytest.mark.faults

EVENTS = 600
BAD = 40


class InfluxSite(Site):
    """The test project, with its events in a bucket."""

    address: InfluxAddress
    bucket: str

    def send(self, times: list[int]) -> None:
        """Send events of which every fifteenth has a field that the bucket refuses."""
        for number, time_ns in enumerate(times):
            fields = {"n": number, "bad": 1} if number % 15 == 14 else {"n": number}
            self.sender.buffer.append((MEASUREMENT, time_ns, {"kind": "x"}, fields, None))
            if number % 60 == 59:  # several frames, of which some are good
                assert self.sender.flusher.flush(timeout_seconds=10)
        assert self.sender.flusher.flush(timeout_seconds=10)

    def points(self) -> list[int]:
        """Return the numbers of all events that the bucket has."""
        found = events_in(self.address, self.bucket)
        return sorted(event["fields"]["n"] for event in found)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Site(tmp_path_factory.mktemp("template"), "redis://127.0.0.1:1/0")
    made.migrate()
    return made.directory / "shop.sqlite3"


@pytest.fixture
def influx_site(
    influx: InfluxAddress,
    own_redis_server: RedisServer,
    migrated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[InfluxSite]:
    for path in migrated.parent.glob(f"{migrated.name}*"):
        shutil.copy(path, tmp_path)
    bucket = f"faults {tmp_path.name} {random.getrandbits(32):08x}"
    api = InfluxApi(Server(influx.url, influx.token, influx.org))
    Buckets(api, influx.org).ensure(bucket, 0)
    api.close()
    options = {"URL": influx.url, "TOKEN": influx.token, "ORG": influx.org, "BUCKET": bucket}
    backend = {"BACKEND": "tailrace.backends.influxdb.InfluxDBBackend", "OPTIONS": options}
    monkeypatch.setenv("PROJECT_BACKENDS", json.dumps({"default": backend}))
    site = InfluxSite(tmp_path, own_redis_server.url())
    site.address, site.bucket = influx, bucket
    yield site
    site.stop_all()


def refuse_field(site: InfluxSite) -> None:
    """Let somebody else have written ``bad`` as text: InfluxDB refuses it as a number then."""
    line = f'{MEASUREMENT},kind=other bad="text",n=-1i,tailrace.id="{"0" * 32}" {time.time_ns()}'
    bucket = urllib.request.quote(site.bucket)
    request = urllib.request.Request(
        f"{site.address.url}/api/v2/write?org={site.address.org}&bucket={bucket}",
        line.encode(),
        {"Authorization": f"Token {site.address.token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204


def seed() -> random.Random:
    number = random.SystemRandom().randrange(2**32)
    print(f"seed: {number}")
    return random.Random(number)


@pytest.mark.parametrize("point", ["influx_body_sent", "influx_sent", "influx_written"])
def test_killed_between_the_points_and_the_books(influx_site: InfluxSite, point: str) -> None:
    """Half of the events have one microsecond, which is where identities are made."""
    now = time.time_ns() // 1000 * 1000
    influx_site.send([now + n % 2 * (n * 997) for n in range(EVENTS)])
    assert influx_site.drain(fault=f"{point}=kill") == -signal.SIGKILL, f"{point} never reached"
    if point != "influx_body_sent":  # then the server may be at it still, or may have given up
        assert influx_site.points(), "the points must be in, and the books know nothing of them"
    assert influx_site.drain() == 0
    assert influx_site.points() == list(range(EVENTS))
    influx_site.assert_balanced(captured=EVENTS, stored=EVENTS)


def test_killed_while_the_refused_ones_are_looked_for(influx_site: InfluxSite) -> None:
    refuse_field(influx_site)
    now = time.time_ns()
    influx_site.send([now + number * 997 for number in range(EVENTS)])
    skip = seed().randrange(6)
    status = influx_site.drain(fault=f"influx_partly_refused=kill:{skip}")
    assert status == -signal.SIGKILL, f"a 422 was not met {skip + 1} times"
    assert influx_site.drain() == 0
    good = [number for number in range(EVENTS) if number % 15 != 14]
    assert len(good) == EVENTS - BAD
    assert influx_site.points() == [-1, *good]
    influx_site.assert_balanced(captured=EVENTS, stored=EVENTS - BAD, dead_lettered=BAD)
