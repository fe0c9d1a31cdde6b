"""Live traffic goes first, and a drain that never comes on does not stop a backfill for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tailrace.pipeline.backfill.contracts import BackfillStopped
from tailrace.pipeline.backfill.throttle import (
    LAG_PAUSE_SECONDS,
    LAG_RESUME_SECONDS,
    LAG_WAIT_MAX_SECONDS,
    REST_MAX_SECONDS,
    Throttle,
)
from tailrace.pipeline.errors import StreamUnavailable


class World:
    """A clock that only sleeping moves, and a lag that follows from the time."""

    def __init__(self, lag: Callable[[float], float]) -> None:
        self.now = 0.0
        self.throttle = Throttle(lambda: lag(self.now), self.sleep, lambda: self.now)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def nothing() -> None: ...


def test_no_lag_no_wait() -> None:
    world = World(lambda now: LAG_PAUSE_SECONDS)
    assert world.throttle.wait(nothing) == ""
    assert world.now == 0


def test_a_lag_is_waited_for_until_it_is_small() -> None:
    world = World(lambda now: 4.0 - now)
    assert "lagged 4.0 s" in world.throttle.wait(nothing)
    assert 4.0 - world.now <= LAG_RESUME_SECONDS


def test_a_drain_that_never_comes_on_delays_each_step_and_no_more() -> None:
    world = World(lambda now: 1e6)
    world.throttle.wait(nothing)
    assert LAG_WAIT_MAX_SECONDS <= world.now <= LAG_WAIT_MAX_SECONDS + 1


def test_a_pause_ends_the_wait() -> None:
    world = World(lambda now: 1e6)

    def look() -> None:
        if world.now > 2:
            raise BackfillStopped("paused")

    with pytest.raises(BackfillStopped):
        world.throttle.wait(look)
    assert world.now < 3


def test_redis_down_is_no_reason_to_wait() -> None:
    def down(now: float) -> float:
        raise StreamUnavailable("down")

    world = World(down)
    assert world.throttle.wait(nothing) == ""


def test_a_slow_storage_gets_a_rest_in_proportion_with_a_bound() -> None:
    world = World(lambda now: 0.0)
    world.throttle.note(1_000, 0.1)
    world.throttle.note(1_000, 2.0)
    assert "rested 1.9 s" in world.throttle.wait(nothing)
    assert world.throttle.wait(nothing) == "", "once"
    world.throttle.note(1_000, 600.0)
    world.now = 0.0
    world.throttle.wait(nothing)
    assert world.now == pytest.approx(REST_MAX_SECONDS)


@pytest.mark.parametrize(("rows", "seconds"), [(1_000, 0.25), (50, 9.0)])
def test_a_step_that_is_not_much_slower_or_tells_nothing_is_no_reason(
    rows: int, seconds: float
) -> None:
    world = World(lambda now: 0.0)
    world.throttle.note(1_000, 0.1)
    world.throttle.note(rows, seconds)
    assert world.throttle.wait(nothing) == ""
