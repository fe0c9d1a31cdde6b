"""A kind of backfill that asks for everything there is to ask for, and takes its time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from tailrace.django_integration.backfills.kinds import register_kind
from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Estimate,
    Kind,
    Slice,
    StepContext,
    StepResult,
    Values,
)
from tailrace.pipeline.backfill.parameters import Parameter
from tailrace.pipeline.errors import (
    BackendMisconfigured,
    RejectedEvents,
    TailraceError,
    TransientBackendError,
)

ROWS_A_STEP = 1000
PROBLEMS: dict[str, Exception] = {
    "no data": BackfillRefused("there is nothing in this selection: choose another window"),
    "no room": BackfillRefused("the target has 1 MiB of room and needs 2: make room, or choose"),
    "down": TransientBackendError("database 'default' cannot be reached: is it up?"),
    "not migrated": BackendMisconfigured("run manage.py migrate tailrace"),
    "value": ValueError("a rollup of this name is not known"),
    "file": FileNotFoundError(2, "No such file or directory", "/there/is/none"),
}


class Slow(Kind):
    """Sleeps, and counts."""

    name = "slow"
    title = "Take your time"
    description = "Sleeps through its steps & writes nothing <at all>."

    def parameters(self) -> Sequence[Parameter]:
        return (
            Parameter(
                name="measurement",
                is_required=True,
                label="Measurement",
                choices=(("request", "Requests"), ("query", "Queries")),
            ),
            Parameter(name="steps", type="integer", default=5, minimum=0, maximum=500),
            Parameter(name="seconds", type="number", default=0.0, minimum=0, maximum=5),
            Parameter(name="start", type="time", default=datetime(2026, 1, 31, 12, tzinfo=UTC)),
            Parameter(name="only", type="lines", label="Only these", help="Routes."),
            Parameter(name="is_loud", type="boolean", default=True, label="Say a lot"),
            Parameter(
                name="problem",
                type="choice",
                choices=tuple((name, name.capitalize()) for name in PROBLEMS),
            ),
            Parameter(name="file", type="path", label="File"),
            Parameter(name="failing", type="integer", default=-1, label="Step that fails"),
        )

    def check(self, values: Values) -> None:
        if values["problem"]:
            raise PROBLEMS[values["problem"]]

    def estimate(self, values: Values) -> Estimate:
        steps = values["steps"]
        return Estimate(
            rows=steps * ROWS_A_STEP,
            bytes=steps * 2_000_000,
            seconds=steps * values["seconds"],
            is_exact=True,
            notes=(f"It would read {values['measurement']}.",),
        )

    def plan(self, values: Values) -> Iterator[Slice]:
        if values["steps"] == 0:
            raise TailraceError("there is nothing to plan")
        for number in range(values["steps"]):
            yield Slice(label=f"{values['measurement']} {number}", rows=ROWS_A_STEP)

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        values = context.values
        end = time.monotonic() + values["seconds"]
        while time.monotonic() < end:
            time.sleep(0.05)
            context.alive()
        if context.marker.number == values["failing"]:
            raise RejectedEvents(f"{values['measurement']} is refused")
        if values["is_loud"]:
            context.log(f"slept through {slice_.label}")
        digest = f"{ROWS_A_STEP}:00000000000000ff"
        return StepResult(
            rows_read=ROWS_A_STEP,
            rows_written=ROWS_A_STEP,
            bytes=2_000_000,
            source_digest=digest,
            target_digest=digest,
        )

    def finish(self, values: Values, total: StepResult) -> Sequence[str]:
        return (f"Next, look at {values['measurement']}.",)


SLOW = Slow()


def register() -> None:
    """Have it among the kinds of this process."""
    register_kind(SLOW)
