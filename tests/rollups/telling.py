"""Stories that happen to a world, one step after the other, or several at once."""

from __future__ import annotations

import functools
import random

from rollups.conftest import Engine
from rollups.oracle import World
from rollups.scene import Step
from rollups.sessions import Sessions, watched


def tell(engine: Engine, sessions: Sessions, choices: list[int], steps: list[Step]) -> int:
    """Have a story happen, and check after each step of it; return how much was compared."""
    with watched():
        world = World(engine, choices, sessions)
        compared = 0
        for step in steps:
            world.run(step)
            compared += world.check()
        return compared + finish(world)


def tell_at_once(
    engine: Engine,
    sessions: Sessions,
    choices: list[int],
    before: list[Step],
    lanes: list[list[Step]],
    seed: int,
) -> int:
    """Have several stories happen at once, and check afterwards; return how much was compared."""
    with watched():
        world = World(engine, choices, sessions)
        for step in before:
            world.run(step)
        pauses = [random.Random(seed + at) for at in range(len(lanes))]
        sessions.do(
            *(
                functools.partial(world.run_all, steps, pause)
                for steps, pause in zip(lanes, pauses, strict=True)
            )
        )
        return world.check() + finish(world)


def finish(world: World) -> int:
    """Refresh all there is, and check that nothing is left; return how much was compared."""
    world.settle()
    world.check_complete()
    return world.check()
