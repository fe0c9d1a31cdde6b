"""InfluxDB 1.12 speaks a part of the API of InfluxDB 2, and some of it otherwise.

It was tested for real: see "Tests" in docs/influxdb.md. Here is what differed.
"""

from __future__ import annotations

import pytest
from influx.conftest import MakeBackend
from influx.fake_server import FakeInflux

from tailrace.backends.influx.reading import flux
from tailrace.backends.influx.server import Capabilities
from tailrace.pipeline.errors import BackendMisconfigured, NotSupportedByBackend


@pytest.fixture
def first(fake_influx: FakeInflux) -> FakeInflux:
    fake_influx.version = "1.12.2"
    return fake_influx


def test_it_is_told_apart_although_it_has_buckets(
    first: FakeInflux, fake_backend: MakeBackend
) -> None:
    backend = fake_backend()
    assert backend.capabilities() == Capabilities(
        "InfluxDB 1", "1.12.2", queries=True, deletes=True, buckets=True, deletes_stop=False
    )
    with pytest.raises(NotSupportedByBackend, match=r"InfluxDB 1 1\.12\.2 .* downsampling tasks"):
        backend.rollup_tasks()


@pytest.mark.parametrize("version", ["unknown", "2.7.12", "v2.7.12"])
def test_a_server_that_does_not_tell_its_version_is_asked_for_tasks(
    fake_influx: FakeInflux, fake_backend: MakeBackend, version: str
) -> None:
    fake_influx.version = version
    assert fake_backend().capabilities().tasks == (version != "unknown")


def test_a_bucket_is_a_database_and_a_policy(first: FakeInflux, fake_backend: MakeBackend) -> None:
    backend = fake_backend(BUCKET="web/raw", ORG="")
    assert backend.ensure_bucket(86_400)
    assert first.buckets["web/raw"] == 86_400
    assert backend.ensure_bucket(7_200)
    assert first.buckets == {"bucket": 0, "web/raw": 7_200}
    assert not backend.ensure_bucket(7_200)


@pytest.mark.parametrize("version", ["2.7.12", "2 (custom)"])
def test_an_organisation_that_a_second_one_has_not_is_named(
    fake_influx: FakeInflux, fake_backend: MakeBackend, version: str
) -> None:
    fake_influx.version = version
    with pytest.raises(BackendMisconfigured, match=r"organization name not found.*ORG"):
        fake_backend(BUCKET="new", ORG="typo").ensure_bucket()


def test_its_deletes_end_before_they_stop(first: FakeInflux, fake_backend: MakeBackend) -> None:
    fake_backend()._delete_points(0, 2_000, "a")
    assert first.deletes[0]["stop"] == "1970-01-01T00:00:00.000002000Z"
    first.version = "2.7.12"
    fake_backend()._delete_points(0, 2_000, "a")
    assert first.deletes[1]["stop"] == "1970-01-01T00:00:00.000001999Z"


def test_its_deletes_have_the_ends_that_it_takes(
    first: FakeInflux, fake_backend: MakeBackend
) -> None:
    fake_backend()._delete_points(flux.NS_FIRST, flux.NS_END, "a")
    first.version = "2.7.12"
    fake_backend()._delete_points(flux.NS_FIRST, flux.NS_END, "a")
    assert [(each["start"], each["stop"]) for each in first.deletes] == [
        ("1677-09-21T00:12:44.145224194Z", "2262-04-11T23:47:16.854775806Z"),
        ("1677-09-21T00:12:43.145224194Z", "2262-04-11T23:47:16.854775806Z"),
    ]
