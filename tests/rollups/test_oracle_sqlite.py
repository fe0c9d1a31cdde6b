"""Any order of events, refreshes, retention, deaths and rivals: a rollup equals its rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from rollups.conftest import Engine
from rollups.oracle import World
from rollups.scene import MOMENTS, ROLLUPS, Step
from rollups.sessions import Sessions, watched
from rollups.stories import HOUR_US, Story, stories, tell_all, told
from rollups.telling import finish, tell
from tailrace.backends.rollups.ranges import us_of

CASES = 60
STORIES: dict[str, Story] = {
    # Found by this test.
    "retention before the first refresh": (
        [0],
        [
            Step("drain", ([],)),
            Step("drain", ([(1729990800000000, "", 0)],)),
            Step("retain", (1729990800000001,)),
        ],
    ),
}


@pytest.fixture
def sessions(sqlite_engine: Engine) -> Iterator[Sessions]:
    """One session more than the test's own."""
    made = Sessions(sqlite_engine.alias)
    yield made
    made.close()


def test_a_rollup_equals_its_rows(sqlite_engine: Engine, sessions: Sessions) -> None:
    tell_all(stories(), told(CASES), partial(tell, sqlite_engine, sessions))


@pytest.mark.parametrize("name", STORIES)
def test_a_story_of_old(sqlite_engine: Engine, sessions: Sessions, name: str) -> None:
    assert tell(sqlite_engine, sessions, *STORIES[name])


@pytest.mark.parametrize("place", range(len(ROLLUPS)))
def test_each_rollup_is_complete_after_a_refresh(
    sqlite_engine: Engine, sessions: Sessions, place: int
) -> None:
    with watched():
        world = World(sqlite_engine, [place], sessions)
        for centre in MOMENTS:
            at = us_of(centre)
            world.drain([(at + n * HOUR_US // 4 - 1, "a", n) for n in range(-200, 200)])
        assert finish(world) > len(ROLLUPS[place]["widths"])
