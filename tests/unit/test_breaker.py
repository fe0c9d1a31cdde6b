from __future__ import annotations

import pytest

from tailrace.pipeline import breaker as module
from tailrace.pipeline.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def pause(breaker: Breaker, clock: Clock) -> float:
    """Fail, and return how long it takes until the next attempt, in seconds."""
    breaker.failed()
    started = clock.now
    while not breaker.allows():
        clock.now += 0.01
    return clock.now - started


def test_it_lets_everything_through_while_all_is_well(clock: Clock) -> None:
    breaker = Breaker()
    assert breaker.allows()
    assert not breaker.is_open


def test_pauses_double_up_to_ten_seconds_and_are_jittered(clock: Clock) -> None:
    breaker = Breaker()
    pauses = [pause(breaker, clock) for _ in range(9)]
    for found, longest in zip(pauses, [0.5, 1, 2, 4, 8, 10, 10, 10, 10], strict=True):
        assert longest * 0.5 - 0.02 <= found <= longest + 0.02
    breakers = [Breaker() for _ in range(20)]
    assert len({round(pause(other, clock), 2) for other in breakers}) > 3


def test_success_closes_it(clock: Clock) -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.failed()
    assert breaker.is_open
    assert not breaker.allows()
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.allows()
    assert pause(breaker, clock) <= 0.52, "it starts from the shortest pause again"


def test_retry_after_is_honoured(clock: Clock) -> None:
    breaker = Breaker()
    breaker.failed(retry_after_seconds=30)
    clock.now += 29.9
    assert not breaker.allows()
    clock.now += 0.2
    assert breaker.allows()
