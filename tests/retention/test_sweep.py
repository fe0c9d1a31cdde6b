"""What is due goes, what is not stays, on every engine."""

from __future__ import annotations

import itertools
import random
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from retention.site import Site, at_any_time

from tailrace.backends.retention import slices
from tailrace.backends.retention import sweep as sweep_module


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


def test_what_is_held_stays(site: Site) -> None:
    site.store(site.days(1, 10), tags={"tenant": "a"})
    site.store(site.days(2, 20), tags={"tenant": "b", "env": "live"})
    site.store(site.days(3, 30), tags={"tenant": "c"})
    site.store(site.days(4, 40))
    held = {"tenant": ["a"], "env": "live"}
    site.sweep({"request": {"DROP_AFTER": "7 days", "HOLD": held}})
    assert site.ages() == [1, 2, 3, 4, 10, 20]


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


def test_the_log_of_sqlite_is_emptied_by_who_filled_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a commit of the drain would have to, and take as long as many random writes do."""
    if site.database.engine != "sqlite":
        pytest.skip("others have processes of their own for that")
    path = connections[site.database.alias].settings_dict["NAME"]
    seen: list[tuple[int, int]] = []

    def look(seconds: float) -> None:
        # A connection that takes the file for immutable does not look into the log.
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
            ((rows,),) = connection.execute("SELECT count(*) FROM tailrace_event").fetchall()
        seen.append((rows, len(site.ages())))

    monkeypatch.setattr(slices, "_sleep", look)
    monkeypatch.setattr(slices, "_FIRST_ROWS", 50)
    site.store([site.now - timedelta(days=30, seconds=number) for number in range(200)])
    site.sweep({"request": "7 days"})
    assert len(seen) > 1
    assert [in_file for in_file, _ in seen] == [there for _, there in seen]
