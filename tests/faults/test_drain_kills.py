"""SIGKILL at each named point of the drain: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import re
import signal
from pathlib import Path

import pytest
from faults.harness import Site

pytestmark = pytest.mark.faults

DRAIN_POINTS = [
    "before_read",
    "after_read",
    "after_decode",
    "mid_write",
    "before_commit",
    "after_commit",
    "before_trim",
    "mid_trim",
]
EVENTS = 3_000


def test_every_fault_point_has_a_case() -> None:
    """Fails when someone adds ``fault("...")``: add the name here, or to the module it is for."""
    import tailrace.backends.base
    import tailrace.pipeline.drain

    sources: set[Path] = set()
    for module in (tailrace.backends.base, tailrace.pipeline.drain):
        sources |= set(Path(module.__file__ or "").parent.rglob("*.py"))
    named = {
        name for source in sources for name in re.findall(r'\bfault\("(\w+)"\)', source.read_text())
    }
    tests = list(Path(__file__).parents[1].rglob("test_*.py"))
    texts = [path.read_text() for path in tests if path != Path(__file__)]
    elsewhere = {name for name in named if any(f'"{name}' in text for text in texts)}
    assert named - elsewhere == set(DRAIN_POINTS) - elsewhere


@pytest.mark.parametrize("point", DRAIN_POINTS)
def test_killed_at(site: Site, point: str, seed: int) -> None:
    numbers = range(EVENTS)
    site.sender.send(numbers)
    # Also in the second or third batch: a shard's first checkpoint is a special case.
    passes = random.Random(seed).randrange(3)
    status = site.drain(fault=f"{point}=kill:{passes}")
    assert status == -signal.SIGKILL, f"{point} was never reached {passes + 1} times"
    site.drain()
    site.assert_each_once(numbers)
    site.assert_balanced(captured=EVENTS, stored=EVENTS)


def test_killed_again_and_again(site: Site, seed: int) -> None:
    """A drain that dies at every third of its points still comes to an end."""
    randomly = random.Random(seed)
    numbers: list[int] = []
    for start in range(0, 5_000, 1_000):
        numbers += range(start, start + 1_000)
        site.sender.send(numbers[-1_000:])
        point = randomly.choice(DRAIN_POINTS)
        site.drain(fault=f"{point}=kill:{randomly.randrange(4)}")
    site.drain()
    site.assert_each_once(numbers)
    site.assert_balanced(captured=len(numbers), stored=len(numbers))
