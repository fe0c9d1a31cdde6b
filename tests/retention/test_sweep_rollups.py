"""Nothing goes before its rollups have it, on every engine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from retention.site import DAY, Site, at_any_time

from tailrace.backends.rollups.declared import register_rollup, unregister_rollup
from tailrace.backends.rollups.ranges import us_of
from tailrace.pipeline.retention import policies_of


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
