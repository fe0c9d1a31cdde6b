"""Any order of events, refreshes, retention, deaths and rivals: a rollup equals its rows.

``TAILRACE_ORACLE_CASES`` is how many cases to try on SQLite; a tenth of it on PostgreSQL, with four
sessions, and a fiftieth on TimescaleDB.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollups.conftest import Engine
from rollups.oracle import (
    MOMENTS,
    POINTS,
    POINTS_BETWEEN,
    ROLLUPS,
    Step,
    World,
    close_elsewhere,
)
from tailrace.backends.rollups.ranges import us_of

CASES = int(os.environ.get("TAILRACE_ORACLE_CASES", "120"))
TOGETHER = ([0], [1], [2], [3], [4], [0, 1], [0, 3], [0, 4], [3, 4], [2, 3])
"""Rollups of one source whose finest buckets share cuts, or retention would stand still."""
HOUR_US = 3_600 * 1_000_000
SPREADS_US = (2 * HOUR_US, 30 * HOUR_US, 24 * 40 * HOUR_US)

values = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([2**62, -(2**63), 10**15, None]),
    st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-6),
)


@st.composite
def moments(draw: Any, centre: Any) -> int:
    """Draw a time near a moment: often just at, or just before, a full hour."""
    spread = draw(st.sampled_from(SPREADS_US))
    at = us_of(centre) + draw(st.integers(-spread, spread))
    kind = draw(st.integers(0, 2))
    return at if kind == 0 else at - at % HOUR_US - (kind == 1)


def plain_steps(centre: Any, names: list[str]) -> st.SearchStrategy[Step]:
    """Return what can happen near a moment."""
    near = moments(centre)
    batch = st.lists(st.tuples(near, st.sampled_from(["", "a", "b"]), values), max_size=6)
    end = st.one_of(near, st.just(us_of(centre + timedelta(days=120))))
    return st.one_of(
        st.builds(lambda events: Step("drain", (events,)), batch),
        st.builds(
            lambda name, start, end: Step("refresh", (name, start, end)),
            st.sampled_from(names),
            st.one_of(st.none(), near),
            end,
        ),
        st.just(Step("refresh_due")),
        st.builds(lambda one, other: Step("erase", (min(one, other), max(one, other))), near, near),
        st.builds(lambda before: Step("retain", (before,)), near),
        st.builds(
            lambda name, place: Step("redeclare", (name, ROLLUPS[place]["widths"][:2])),
            st.sampled_from(names),
            st.sampled_from([0, 1]),
        ),
    )


@st.composite
def stories(draw: Any) -> tuple[list[int], list[Step]]:
    """Draw which rollups there are, and what happens."""
    choices = draw(st.lists(st.integers(0, len(ROLLUPS) - 1), min_size=1, max_size=2, unique=True))
    centre = draw(st.sampled_from(MOMENTS))
    plain = plain_steps(centre, [f"r{place}" for place in choices])
    dying = st.builds(
        lambda step, point, after: step._replace(fault=point, after=after),
        plain,
        st.sampled_from(POINTS),
        st.integers(0, 3),
    )
    rivals = plain.filter(lambda step: step.name != "redeclare")
    disturbed = st.builds(
        lambda step, point, after, other: step._replace(between=(point, other), after=after),
        plain,
        st.sampled_from(POINTS_BETWEEN),
        st.integers(0, 3),
        rivals,
    )
    steps = draw(st.lists(st.one_of(plain, plain, dying, disturbed), min_size=3, max_size=10))
    return choices, steps


def tell(engine: Engine, choices: list[int], steps: list[Step]) -> int:
    """Have a story happen, and check after each step of it; return how much was compared."""
    world = World(engine, choices)
    compared = 0
    for step in steps:
        world.run(step)
        compared += world.check()
    world.settle()
    world.check_complete()
    return compared + world.check()


def test_a_rollup_equals_its_rows(sqlite_engine: Engine) -> None:
    compared = []

    @given(stories())
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def check(story: tuple[list[int], list[Step]]) -> None:
        compared.append(tell(sqlite_engine, *story))

    try:
        check()
    finally:
        close_elsewhere(sqlite_engine.alias)
    print(f"{len(compared)} cases, {sum(compared)} partials compared")
    assert sum(compared) > len(compared), "hardly anything was ever materialised"


@pytest.mark.parametrize("place", range(len(ROLLUPS)))
def test_each_rollup_is_complete_after_a_refresh(sqlite_engine: Engine, place: int) -> None:
    world = World(sqlite_engine, [place])
    for centre in MOMENTS:
        at = us_of(centre)
        world.drain([(at + n * HOUR_US // 4 - 1, "a", n) for n in range(-200, 200)])
    world.settle()
    world.check_complete()
    assert world.check() > len(ROLLUPS[place]["widths"])
