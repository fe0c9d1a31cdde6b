"""Stories to try a :class:`World` with: what happens, in which order, and who dies in between.

``TAILRACE_ORACLE_CASES`` is how many to try on SQLite; a tenth of it on PostgreSQL, with four
sessions, and a fiftieth on TimescaleDB. Without it there are a few, the same in each run.
``TAILRACE_ORACLE_SECONDS`` ends a test earlier; it prints how many there were.
``TAILRACE_ORACLE_SHRINK=1`` has Hypothesis look for the shortest story that fails: for minutes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rollups.scene import MOMENTS, POINTS, POINTS_BETWEEN, ROLLUPS, Step
from tailrace.backends.rollups.ranges import us_of

TOGETHER = ([0], [1], [2], [3], [4], [0, 1], [0, 3], [0, 4], [3, 4], [2, 3], [2, 4])
"""Rollups of one source: but for the last two, their finest buckets share cuts, so that retention
can go on."""
HOUR_US = 3_600 * 1_000_000
SPREADS_US = (2 * HOUR_US, 30 * HOUR_US, 24 * 40 * HOUR_US)
LANES = 4

Story = tuple[list[int], list[Step]]
Lanes = tuple[list[int], list[Step], list[list[Step]], int]
"""Which rollups there are, what has happened, what happens at once, and a seed for pauses."""

values = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([2**62, -(2**63), 10**15, None]),
    st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-6),
)


def told(cases: int, share: int = 1) -> settings:
    """Return how to try stories.

    Args:
        cases: How many, unless the environment says so.
        share: Which part of what the environment says: one in so many.
    """
    asked = os.environ.get("TAILRACE_ORACLE_CASES")
    phases = [Phase.explicit, Phase.generate]
    if os.environ.get("TAILRACE_ORACLE_SHRINK") == "1":
        phases.append(Phase.shrink)
    return settings(
        max_examples=cases if asked is None else max(int(asked) // share, 1),
        derandomize=asked is None,
        phases=phases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class TimeIsUp(BaseException):
    """No error of a case, so that Hypothesis lets it through, and tries no other one."""


def tell_all(told_stories: st.SearchStrategy[Any], how: settings, tell: Callable[..., int]) -> None:
    """Tell stories, until there were enough or the environment's time is up.

    Args:
        told_stories: Which.
        how: See :func:`told`.
        tell: Tells one, checks it, and returns how many partials it compared.
    """
    ends = time.monotonic() + float(os.environ.get("TAILRACE_ORACLE_SECONDS", "inf"))
    compared = []

    @given(told_stories)
    @how
    def check(story: Any) -> None:
        if time.monotonic() > ends:
            raise TimeIsUp
        compared.append(tell(*story))

    with suppress(TimeIsUp):
        check()
    print(f"{len(compared)} cases, {sum(compared)} partials compared")
    assert sum(compared) > len(compared), "hardly anything was ever materialised"


@st.composite
def moments(draw: Any, centre: Any) -> int:
    """Draw a time near a moment: often just at, or just before, a full hour."""
    spread = draw(st.sampled_from(SPREADS_US))
    at = us_of(centre) + draw(st.integers(-spread, spread))
    kind = draw(st.integers(0, 2))
    return at if kind == 0 else at - at % HOUR_US - (kind == 1)


def plain_steps(centre: Any, names: list[str], shard: int = 0) -> st.SearchStrategy[Step]:
    """Return what can happen near a moment, but for changed declarations."""
    near = moments(centre)
    batch = st.lists(st.tuples(near, st.sampled_from(["", "a", "b"]), values), max_size=6)
    end = st.one_of(near, st.just(us_of(centre + timedelta(days=120))))
    return st.one_of(
        st.builds(lambda events: Step("drain", (events, shard)), batch),
        st.builds(
            lambda name, start, end: Step("refresh", (name, start, end)),
            st.sampled_from(names),
            st.one_of(st.none(), near),
            end,
        ),
        st.just(Step("refresh_due")),
        st.builds(lambda one, other: Step("erase", (min(one, other), max(one, other))), near, near),
        st.builds(lambda before: Step("retain", (before,)), near),
    )


def changes(names: list[str]) -> st.SearchStrategy[Step]:
    """Return changed declarations."""
    return st.builds(
        lambda name, place: Step("redeclare", (name, ROLLUPS[place]["widths"][:2])),
        st.sampled_from(names),
        st.sampled_from([0, 1]),
    )


def dying(plain: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    """Return the same steps, with a death in each."""
    return st.builds(
        lambda step, point, after: step._replace(fault=point, after=after),
        plain,
        st.sampled_from(POINTS),
        st.integers(0, 3),
    )


@st.composite
def stories(draw: Any) -> Story:
    """Draw which rollups there are, and what happens."""
    choices = draw(st.sampled_from(TOGETHER))
    centre = draw(st.sampled_from(MOMENTS))
    names = [f"r{place}" for place in choices]
    rivals = plain_steps(centre, names, shard=1)
    plain = st.one_of(plain_steps(centre, names), changes(names))
    disturbed = st.builds(
        lambda step, point, after, other: step._replace(between=(point, other), after=after),
        plain,
        st.sampled_from(POINTS_BETWEEN),
        st.integers(0, 3),
        rivals,
    )
    each = st.one_of(plain, plain, dying(plain), disturbed)
    return choices, draw(st.lists(each, min_size=3, max_size=10))


@st.composite
def lanes(draw: Any) -> Lanes:
    """Draw what several sessions do at once, after something has happened."""
    choices = draw(st.sampled_from(TOGETHER))
    centre = draw(st.sampled_from(MOMENTS))
    names = [f"r{place}" for place in choices]
    before = draw(st.lists(plain_steps(centre, names), max_size=3))
    at_once = []
    for lane in range(LANES):
        plain = plain_steps(centre, names, shard=lane)
        at_once.append(draw(st.lists(st.one_of(plain, plain, dying(plain)), max_size=4)))
    return choices, before, at_once, draw(st.integers(0, 2**32))
