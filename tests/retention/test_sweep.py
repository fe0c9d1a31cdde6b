"""What is due goes, what is not stays, on every engine."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from retention.conftest import Database

from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.postgres import PostgresBackend
from tailrace.backends.registry import backends
from tailrace.backends.retention import slices
from tailrace.backends.retention import sweep as sweep_module
from tailrace.backends.rollups.declared import register_rollup, unregister_rollup
from tailrace.backends.rollups.ranges import us_of
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event, ns_from_datetime
from tailrace.pipeline.retention import Policy, RetentionConfig, policies_of

DAY = timedelta(days=1)
MOMENTS = [
    datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC),
    datetime(2024, 3, 1, 0, 0, 0, tzinfo=UTC),
    datetime(2024, 3, 1, 0, 0, 30, tzinfo=UTC),
    datetime(2024, 12, 31, 23, 0, 0, 1, tzinfo=UTC),
]
"""What time it may be; all of it is over, since a rollup never goes beyond the true present."""
at_any_time = pytest.mark.parametrize("now", MOMENTS, ids=str)


class Site:
    """A backend on an engine, and short ways to fill it."""

    def __init__(self, database: Database, now: datetime) -> None:
        self.database = database
        self.now = now
        kind = PostgresBackend if database.engine == "postgres" else DjangoDBBackend
        self.backend = kind("default", {"ALIAS": database.alias})
        self.backend.create_checkpoint(Checkpoint(0))
        self._positions = itertools.count(1)

    def store(
        self,
        times: Iterable[datetime],
        measurement: str = "request",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        events = [
            Event(
                measurement,
                ns_from_datetime(at),
                dict(tags or {}),
                {"n": 1},
                id=uuid.uuid4().bytes,
            )
            for at in times
        ]
        with self.backend.transaction(0) as tx:
            tx.write(events)
            position = f"{next(self._positions)}-0"
            tx.advance(Checkpoint(0, position, "e", tx.checkpoint.created_ns), [])

    def days(self, *ages: float) -> list[datetime]:
        return [self.now - timedelta(days=age) - timedelta(minutes=1) for age in ages]

    def ages(self, measurement: str = "request", **tags: str) -> list[int]:
        """Return the ages of what is there, in whole days, ascending."""
        rows = self.database.rows("Event").filter(measurement=measurement)
        found = rows.values_list("time", "tags")
        return sorted(
            (self.now - time) // DAY for time, its in found if tags.items() <= dict(its).items()
        )

    def sweep(self, retention: dict[str, Any], seconds: float = 30.0) -> Any:
        return self.backend.sweep(policies(retention), seconds=seconds)


def policies(retention: dict[str, Any]) -> dict[str, Policy]:
    typed = msgspec.convert(retention, dict[str, RetentionConfig | str | None])
    made, problems = policies_of(typed, {})
    assert not problems
    return made


@pytest.fixture
def now() -> datetime:
    """What time it is; a test may be given others."""
    return datetime(2024, 5, 15, 12, 34, 56, tzinfo=UTC)


@pytest.fixture
def site(database: Database, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(slices, "_sleep", lambda seconds: None)
    monkeypatch.setattr(sweep_module, "_utc_now", lambda: now)
    known = backends._config
    no_rollups = dict.fromkeys(("requests", "queries", "exceptions", "jobs"), False)
    backends.configure(lambda: Config(rollups=no_rollups))
    yield Site(database, now)
    backends.configure(known)


@at_any_time
def test_old_events_go_by_measurement(site: Site) -> None:
    for name in ("request", "query", "checkout"):
        site.store(site.days(1, 5, 10, 40), name)
    report = site.sweep({"request": "7 days", "*": "30 days", "checkout": None})
    assert site.ages("request") == [1, 5]
    assert site.ages("query") == [1, 5, 10]
    assert site.ages("checkout") == [1, 5, 10, 40]
    assert report.rows == {"request": 2, "query": 1}
    assert report.is_finished


def test_only_what_is_named_goes_without_a_star(site: Site) -> None:
    site.store(site.days(1, 100), "request")
    site.store(site.days(1, 100), "query")
    site.sweep({"request": "7 days"})
    assert (site.ages("request"), site.ages("query")) == ([1], [1, 100])


def test_nothing_is_declared(site: Site) -> None:
    site.store(site.days(1, 1000))
    report = site.sweep({})
    assert site.ages() == [1, 1000]
    assert str(report) == "nothing was due"


@at_any_time
def test_what_is_held_stays(site: Site) -> None:
    site.store(site.days(1, 10), tags={"tenant": "a"})
    site.store(site.days(2, 20), tags={"tenant": "b", "env": "live"})
    site.store(site.days(3, 30), tags={"tenant": "c"})
    site.store(site.days(4, 40))
    held = {"tenant": ["a"], "env": "live"}
    site.sweep({"request": {"DROP_AFTER": "7 days", "HOLD": held}})
    assert site.ages() == [1, 2, 3, 4, 10, 20]


@at_any_time
def test_ages_by_tag(site: Site) -> None:
    site.store(site.days(1, 5, 10, 40), tags={"status": "500"})
    site.store(site.days(1, 5, 10, 40), tags={"status": "200", "env": "test"})
    site.store(site.days(1, 5, 10, 40), tags={"status": "200"})
    site.store(site.days(1, 5, 10, 40))
    rules = [
        {"TAGS": {"env": "test"}, "DROP_AFTER": "2 days"},
        {"TAGS": {"status": ["500", "502"]}, "DROP_AFTER": "30 days"},
    ]
    retention = {"request": {"DROP_AFTER": "7 days", "BY_TAG": rules}}
    site.sweep(retention)
    assert site.ages(status="500") == [1, 5, 10]
    assert site.ages(env="test") == [1]
    assert site.ages() == sorted([1, 5, 10, 1, 1, 5, 1, 5])
    assert site.sweep(retention).rows == {}


def test_an_age_for_some_tags_only(site: Site) -> None:
    site.store(site.days(1, 5), tags={"env": "test"})
    site.store(site.days(1, 5))
    rules = [{"TAGS": {"env": "test"}, "DROP_AFTER": "2 days"}]
    site.sweep({"request": {"BY_TAG": rules}})
    assert site.ages() == [1, 1, 5]


def test_the_newest_rows_stay_where_there_are_too_many(site: Site) -> None:
    site.store([site.now - timedelta(minutes=number) for number in range(100)])
    site.store([site.now - timedelta(minutes=number) for number in range(100)], "query")
    site.sweep({"request": {"MAX_ROWS": 30}})
    assert len(site.ages("request")) == 30
    assert len(site.ages("query")) == 100
    assert site.sweep({"request": {"MAX_ROWS": 30}}).rows == {}


def test_the_newest_rows_stay_where_they_are_too_large(site: Site) -> None:
    site.store([site.now - timedelta(minutes=number) for number in range(200)])
    site.sweep({"request": {"MAX_SIZE": "10 kB"}})
    assert 10 < len(site.ages("request")) < 100


def test_more_rows_of_one_time_than_a_slice_has(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "_FIRST_ROWS", 7)
    monkeypatch.setattr(slices, "SLICE_ROWS", 7)
    monkeypatch.setattr(slices, "_LEAST_ROWS", 7)
    same = site.now - timedelta(days=9)
    site.store([same] * 40)
    site.store([same] * 40, tags={"keep": "yes"})
    site.store(site.days(1, 8, 10))
    site.sweep({"request": {"DROP_AFTER": "7 days", "HOLD": {"keep": "yes"}}})
    assert site.ages() == [1] + [9] * 40


def test_no_slice_is_larger_than_it_may_be(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    delete = sweep_module.Slices.delete

    def counted(self: Any) -> int:
        sizes.append(delete(self))
        return sizes[-1]

    monkeypatch.setattr(slices, "_AIM_SECONDS", 1e9)
    monkeypatch.setattr(slices, "_SQLITE_AIM_SECONDS", 1e9)
    monkeypatch.setattr(slices, "SLICE_ROWS", 700)
    monkeypatch.setattr(sweep_module.Slices, "delete", counted)
    start = site.now - timedelta(days=30)
    site.store([start + timedelta(seconds=number) for number in range(5_000)])
    site.sweep({"request": "7 days"})
    assert sum(sizes) == 5_000
    assert max(sizes) == 700


def test_a_night_is_caught_up_in_bounded_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_ROWS", 50)
    monkeypatch.setattr(slices, "_FIRST_ROWS", 50)
    ticks = itertools.count()
    monkeypatch.setattr(sweep_module.time, "monotonic", lambda: next(ticks) * 0.1)
    start = site.now - timedelta(days=30)
    site.store([start + timedelta(seconds=number) for number in range(500)])
    left = [500]
    while left[-1]:
        assert len(left) < 100
        report = site.sweep({"request": "7 days"}, seconds=2)
        left.append(len(site.ages()))
        assert report.is_finished == (left[-1] == 0)
    assert len(left) > 3, "it was not in several runs"


def test_an_interrupted_pass_goes_on_where_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With held rows, a pass that always began at the beginning would never come to its end."""
    monkeypatch.setattr(slices, "SLICE_ROWS", 10)
    monkeypatch.setattr(slices, "_FIRST_ROWS", 10)
    monkeypatch.setattr(slices, "_LEAST_ROWS", 10)
    old = site.now - timedelta(days=30)
    site.store([old + timedelta(seconds=n) for n in range(100)], tags={"keep": "yes"})
    site.store([old + timedelta(hours=1)])
    retention = {"request": {"DROP_AFTER": "7 days", "HOLD": {"keep": "yes"}}}
    ticks = itertools.count()
    monkeypatch.setattr(sweep_module.time, "monotonic", lambda: next(ticks) * 0.1)
    runs = 0
    while not site.sweep(retention, seconds=1.5).is_finished:
        runs += 1
        assert runs < 50
    assert runs > 2
    assert len(site.ages()) == 100
    progress = site.backend.retention_progress()["request"]
    assert (progress.position_us, progress.last_rows) == (None, 1)
    assert progress.examined_us == progress.before_us


def test_what_was_held_goes_when_the_policy_changes(site: Site) -> None:
    site.store(site.days(1, 10), tags={"keep": "yes"})
    site.sweep({"request": {"DROP_AFTER": "7 days", "HOLD": {"keep": "yes"}}})
    assert site.ages() == [1, 10]
    site.sweep({"request": "7 days"})
    assert site.ages() == [1]


def test_a_wrong_hold_of_one_does_not_stop_the_others(site: Site) -> None:
    site.store(site.days(1, 10))
    report = site.sweep(
        {"request": "7 days", "query": {"DROP_AFTER": "1 day", "HOLD": {"\0": "x"}}}
    )
    assert site.ages() == [1]
    assert report.problems[0].startswith("TAILRACE['RETENTION']['query']: ")


def test_many_measurements(site: Site) -> None:
    names = [f"m{number:03}" for number in range(60)]
    for name in names:
        site.store(site.days(1, 10), name)
    report = site.sweep({"*": "7 days", "m001": "20 days"})
    assert sum(report.rows.values()) == 59
    assert {name: len(site.ages(name)) for name in ("m000", "m001", "m059")} == {
        "m000": 1,
        "m001": 2,
        "m059": 1,
    }


def test_random_policies_agree_with_the_rule(site: Site) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    randomly = random.Random(seed)
    ages = [randomly.uniform(0, 60) for _ in range(300)]
    kept: list[int] = []
    rule, age = randomly.uniform(1, 50), randomly.uniform(1, 50)
    for number in range(0, 300, 10):
        tags = {name: randomly.choice("abc") for name in ("x", "y") if randomly.random() < 0.7}
        chosen = [site.now - timedelta(days=each) for each in ages[number : number + 10]]
        site.store(chosen, tags=tags)
        limit = rule if tags.get("y") == "b" else age
        for each in ages[number : number + 10]:
            if tags.get("x") == "a" or each < limit:
                kept.append(int(each))
    seconds = (f"{int(rule * 86_400)} seconds", f"{int(age * 86_400)} seconds")
    site.sweep(
        {
            "request": {
                "DROP_AFTER": seconds[1],
                "HOLD": {"x": "a"},
                "BY_TAG": [{"TAGS": {"y": "b"}, "DROP_AFTER": seconds[0]}],
            }
        }
    )
    assert len(site.ages()) == pytest.approx(len(kept), abs=1)


# --- with rollups


@pytest.fixture
def rollup(site: Site) -> Iterator[Any]:
    yield register_rollup(
        "calls", "request", fields=("n",), widths=("1 hour", "1 day"), group_by=("status",)
    )
    unregister_rollup("calls")


@at_any_time
def test_rows_go_when_their_rollup_has_them(site: Site, rollup: Any) -> None:
    site.store(site.days(1, 10, 20))
    report = site.sweep({"request": "7 days"})
    assert site.ages() == [1]
    assert report.waits == {}
    buckets = site.database.rows("RollupBucket").filter(field="")
    assert sum(buckets.values_list("count", flat=True)) >= 4, "two rows at two levels"
    source = site.database.rows("RollupSource").get(source="request")
    assert [source.floor_us] == _hours([site.now - 7 * DAY])


def test_rows_stay_while_their_rollup_is_not_computed(
    site: Site, rollup: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store(site.days(1, 10, 20))
    with monkeypatch.context() as patch:
        patch.setattr(site.backend, "refresh_before", lambda *args: None)
        report = site.sweep({"request": "7 days"})
    assert site.ages() == [1, 10, 20]
    assert "request" in report.waits
    site.sweep({"request": "7 days"})
    assert site.ages() == [1]


@at_any_time
def test_a_late_event_is_computed_before_it_goes(site: Site, rollup: Any) -> None:
    site.store(site.days(1, 10))
    site.backend.refresh_rollup("calls")
    site.store(site.days(10, 10))  # late: noted as invalid
    site.sweep({"request": "7 days"})
    assert site.ages() == [1]
    level = site.database.rows("RollupLevel").get(rollup="calls", level=0)
    old = site.database.rows("RollupBucket").filter(
        level_id=level.id, field="", bucket_us__lt=us_of(site.now - 7 * DAY)
    )
    assert sum(old.values_list("count", flat=True)) == 3


@at_any_time
def test_what_a_bucket_says_before_the_floor_it_says_for_good(site: Site, rollup: Any) -> None:
    site.store(site.days(1, 10, 10))
    site.sweep({"request": "7 days"})
    before = _buckets(site)
    site.store(site.days(10))  # too late for any rollup
    site.backend.refresh_rollup("calls")
    site.sweep({"request": "7 days"})
    site.backend.refresh_rollup("calls")
    assert site.ages() == [1]
    old = us_of(site.now - 8 * DAY)
    assert [b for b in _buckets(site) if b[1] < old] == [b for b in before if b[1] < old]


@at_any_time
def test_levels_go_by_age_where_the_coarser_one_is_right(site: Site, rollup: Any) -> None:
    site.store(site.days(1, 10, 100, 900))
    declared = {rollup.name: rollup}
    made, problems = policies_of(
        {"request": "7 days", "rollup:1h": "60 days", "rollup:calls:1 day": "2 years"}, declared
    )
    assert not problems
    site.backend.sweep(made, seconds=30)
    site.backend.refresh_rollup("calls")
    report = site.backend.sweep(made, seconds=30)
    assert report.is_finished
    assert _bucket_times(site, 0) == _hours(site.days(1, 10))
    assert _bucket_times(site, 1) == _dates(site.days(1, 10, 100))


@at_any_time
def test_buckets_stay_while_the_coarser_level_is_wrong_there(
    site: Site, rollup: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store(site.days(1, 100))
    site.backend.refresh_rollup("calls")
    site.store(site.days(100))  # late
    declared = {rollup.name: rollup}
    made, _ = policies_of({"rollup:1h": "60 days"}, declared)
    site.backend.sweep(made, seconds=30)
    assert _bucket_times(site, 0) == _hours(site.days(1, 100))
    site.backend.refresh_rollup("calls")
    site.backend.sweep(made, seconds=30)
    assert _bucket_times(site, 0) == _hours(site.days(1))
    assert _bucket_times(site, 1) == _dates(site.days(1, 100))


def _buckets(site: Site) -> list[Any]:
    names = ("level_id", "bucket_us", "group", "field", "count", "whole_sum")
    return sorted(site.database.rows("RollupBucket").values_list(*names))


def _hours(times: list[datetime]) -> list[int]:
    """Return the buckets of an hour that have these times."""
    return sorted({us_of(time.replace(minute=0, second=0, microsecond=0)) for time in times})


def _dates(times: list[datetime]) -> list[int]:
    return sorted({hour // 86_400_000_000 * 86_400_000_000 for hour in _hours(times)})


def _bucket_times(site: Site, level: int) -> list[int]:
    row = site.database.rows("RollupLevel").get(rollup="calls", level=level)
    found = site.database.rows("RollupBucket").filter(level_id=row.id, field="")
    return sorted(found.values_list("bucket_us", flat=True))


def test_rollups_whose_buckets_never_begin_together_hold_everything(site: Site) -> None:
    site.store(site.days(1, 40))
    register_rollup("here", "request", widths=("1 day",), time_zone="Europe/Berlin")
    register_rollup("there", "request", widths=("1 day",), time_zone="America/New_York")
    try:
        report = site.sweep({"request": "7 days"})
    finally:
        unregister_rollup("here")
        unregister_rollup("there")
    assert site.ages() == [1, 40]
    assert "'here', 'there'" in report.waits["request"]
    assert report.is_finished
