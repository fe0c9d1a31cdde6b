"""Copies between real databases, by the command, in processes of their own."""

from __future__ import annotations

import json

import pytest
from backfill.copy_site import CopySite, make_rows

ROWS = 3_500


def test_a_copy_has_everything_and_a_second_one_adds_nothing(site: CopySite) -> None:
    """All pairs of databases; some events are there before, and other measurements stay out."""
    rows = make_rows(ROWS)
    site.seed(rows)
    site.seed(make_rows(50, "request"))
    site.seed(rows[500:2_000:3], "new")
    done = site.copy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.events("new") == site.events("old")
    assert site.events("new", "request") == []
    result = site.latest()["result"]
    assert (result["rows_read"], result["rows_written"], result["rows_present"]) == (
        3500,
        3000,
        500,
    )
    assert result["source_digest"] == result["target_digest"]
    assert site.copy().returncode == 0
    again = site.latest()
    assert (again["result"]["rows_written"], again["result"]["rows_present"]) == (0, ROWS)
    assert len(site.events("new")) == ROWS


def test_compare_says_where_and_how_the_ends_differ(make_site: object) -> None:
    site: CopySite = make_site("sqlite-postgres")  # type: ignore[operator]
    rows = make_rows(ROWS)
    site.seed(rows)
    changed = (*rows[10][:4], {"n": -1}, rows[10][5])
    site.seed([*rows[:10], changed, *rows[12:], *make_rows(3, first=ROWS * 2)], "new")
    ends = ("--source", "old", "--target", "new", "--measurement", "checkout")
    done = site.backfill("compare", *ends, "--slice-rows", "1000")
    assert done.returncode == 1
    latest = site.latest()
    assert (latest["state"], len(latest["failures"])) == ("failed", 1)
    shown = site.backfill("show", latest["uid"][:8]).stdout
    assert "1 are missing, 0 are there beside them, 1 differ" in shown
    site.empty("new")
    assert site.copy().returncode == 0
    retried = site.backfill("retry", latest["uid"])
    assert retried.returncode == 0, retried.stdout + retried.stderr
    assert "compared and equal" in retried.stdout


@pytest.mark.parametrize("window", [("--start", "2026-01-01T00:05:00"), ("--end", "2026-01-01")])
def test_a_window_is_half_open(make_site: object, window: tuple[str, str]) -> None:
    site: CopySite = make_site("sqlite-sqlite")  # type: ignore[operator]
    site.seed(make_rows(1_500))
    done = site.copy(*window)
    if window[0] == "--end":
        assert done.returncode == 1, "nothing is before the first event"
        assert "has no 'checkout' from the beginning to 2026-01-01 00:00:00" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    expected = [row for row in site.events("old") if row[2].minute >= 5]
    assert site.events("new") == expected
    assert len(expected) == 600


def test_the_dry_run_estimates_and_stores_nothing(make_site: object) -> None:
    site: CopySite = make_site("sqlite-sqlite")  # type: ignore[operator]
    site.seed(make_rows(1_000))
    done = site.backfill(
        *("--json", "copy", "--source", "old", "--target", "new"),
        *("--measurement", "checkout", "--dry-run"),
    )
    estimate = json.loads(done.stdout)["estimate"]
    assert (estimate["rows"], estimate["is_exact"]) == (1_000, True)
    assert 100_000 < estimate["bytes"] < 1_000_000
    assert site.backfill("list").stdout == ""
    assert site.events("new") == []
