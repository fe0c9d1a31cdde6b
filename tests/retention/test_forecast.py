"""A dry run says what a sweep then does, on every engine."""

from __future__ import annotations

from typing import Any

import pytest
from retention.site import Site, at_any_time, policies

from tailrace.backends.memory import MemoryBackend
from tailrace.backends.rollups.declared import register_rollup, unregister_rollup
from tailrace.pipeline.errors import NotSupportedByBackend
from tailrace.pipeline.retention import policies_of

RETENTION: dict[str, Any] = {
    "request": {"DROP_AFTER": "7 days", "HOLD": {"tenant": "acme"}},
    "query": {"MAX_ROWS": 3},
    "exception": {
        "DROP_AFTER": "30 days",
        "BY_TAG": [{"TAGS": {"env": "test"}, "DROP_AFTER": "2 days"}],
    },
    "checkout": None,
    "*": "90 days",
}


def fill(site: Site) -> None:
    site.store(site.days(1, 6, 8, 20))
    site.store(site.days(9, 10), tags={"tenant": "acme"})
    site.store(site.days(1, 2, 3, 4, 5, 6), "query")
    site.store(site.days(1, 3, 40), "exception", {"env": "test"})
    site.store(site.days(1, 3, 40), "exception")
    site.store(site.days(1000), "checkout")
    site.store(site.days(1, 100), "job")


def forecast(site: Site, retention: dict[str, Any]) -> dict[str, Any]:
    made = site.backend.forecast_retention(policies(retention), site.now)
    return {each.target: each for each in made}


@at_any_time
def test_it_says_what_a_sweep_does(site: Site) -> None:
    fill(site)
    said = forecast(site, RETENTION)
    rows = {target: each.rows for target, each in said.items() if each.rows}
    assert rows == {"request": 2, "query": 3, "exception": 3, "job": 1}
    assert site.sweep(RETENTION).rows == rows
    assert [each.rows for each in forecast(site, RETENTION).values() if each.rows] == []


def test_it_changes_nothing(site: Site) -> None:
    fill(site)
    before = site.database.rows("Event").count()
    forecast(site, RETENTION)
    assert site.database.rows("Event").count() == before
    for model in ("RetentionState", "Job", "RollupLevel"):
        assert not site.database.rows(model).exists(), model
    # The one without a name is what writers and declarations hold, and was there before.
    assert not site.database.rows("RollupSource").exclude(source="").exists()


def test_sizes_are_those_of_rows(site: Site) -> None:
    site.store(site.days(*range(8, 58)), tags={"path": "x" * 1_000})
    site.store(site.days(*range(8, 58)), "query")
    said = forecast(site, {"*": "7 days"})
    assert said["request"].rows == said["query"].rows == 50
    assert 50 * 1_000 < said["request"].size_bytes < 50 * 1_600
    assert 50 * 50 < said["query"].size_bytes < 50 * 600


def test_charts_that_lose_detail(site: Site) -> None:
    site.store(site.days(1, 10, 100))
    rollup = register_rollup(
        "calls", "request", fields=("n",), widths=("1 hour", "1 day"), group_by=("status",)
    )
    made, _ = policies_of({"*": "7 days", "rollup:1h": "60 days"}, {"calls": rollup})  # type: ignore[dict-item]
    try:
        before = {each.target: each for each in site.backend.forecast_retention(made, site.now)}
        site.backend.refresh_rollup("calls")
        after = {each.target: each for each in site.backend.forecast_retention(made, site.now)}
    finally:
        unregister_rollup("calls")
    assert before["request"].charts == (
        "rollup 'calls' keeps n by status: 1 hour for 60 days, 1 day for ever",
        "charts of other fields or tags, and narrower ones, end there",
    )
    assert after["request"].rows == 2
    assert after["rollup:calls:1 hour"].rows > 0
    assert after["rollup:calls:1 hour"].charts == (
        "charts narrower than 1 day end there; 1 day for ever remain",
    )
    assert "rollup:calls:1 day" not in after


def test_charts_without_a_rollup(site: Site) -> None:
    site.store(site.days(1, 10), "checkout")
    (chart,) = forecast(site, {"*": "7 days"})["checkout"].charts
    assert chart == "no rollup is over checkout: its charts end there"


def test_what_is_wrong_names_the_setting(site: Site) -> None:
    site.store(site.days(1, 10))
    wrong: dict[str, Any] = {"query": {"DROP_AFTER": "1 day", "HOLD": {"\0": "x"}}}
    said = forecast(site, {"request": "7 days", **wrong})
    assert said["request"].rows == 1
    assert said["query"].problem.startswith("TAILRACE['RETENTION']['query']: ")


def test_a_backend_that_deletes_nothing_says_so() -> None:
    with pytest.raises(NotSupportedByBackend, match="forecast_retention"):
        MemoryBackend("memory", {}).forecast_retention({})
