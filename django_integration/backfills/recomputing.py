"""The kind ``recompute``: the buckets of rollups, made again from what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from tailrace.backends import get_backend
from tailrace.backends.backfill.selection import Window, window_of, window_slice
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

from .backend_choice import backend_parameter

_STEP_HOURS = 24
_STEPS_MAX = 20_000


class Recompute(Kind):
    """Recomputes rollups in a window; recomputing twice gives the same buckets."""

    name = "recompute"
    title = "Recompute rollups"
    description = (
        "Makes the buckets of a rollup again from the stored rows, a day in a step: after its "
        "declaration has changed, or after rows were changed behind Tailrace's back."
    )

    def parameters(self) -> Sequence[Parameter]:
        return (
            backend_parameter("Backend"),
            Parameter(name="rollup", is_required=True, label="Rollup", help="Its name."),
            Parameter(name="start", type="time", is_required=True, label="From"),
            Parameter(name="end", type="time", is_required=True, label="To"),
            Parameter(
                name="step_hours",
                type="number",
                default=_STEP_HOURS,
                minimum=1,
                label="Hours in a step",
                help="Days are taken whole where buckets are days: choose a multiple of both.",
            ),
        )

    def check(self, values: Values) -> None:
        _refresher(values)
        if values["start"] >= values["end"]:
            raise BackfillRefused(
                f"the window is empty: {values['start']} is not before {values['end']}"
            )
        steps = (values["end"] - values["start"]) / timedelta(hours=values["step_hours"])
        if steps > _STEPS_MAX:
            raise BackfillRefused(f"this would be {steps:.0f} steps; take more hours in a step")

    def estimate(self, values: Values) -> Estimate:
        return Estimate(rows=sum(slice_.rows for slice_ in self.plan(values)), notes=_NOTES)

    def plan(self, values: Values) -> Iterator[Slice]:
        start: datetime = values["start"]
        while start < values["end"]:
            end = min(start + timedelta(hours=values["step_hours"]), values["end"])
            yield window_slice(Window(start, end), 1)
            start = end

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        window = window_of(slice_)
        assert window is not None, "our own slices are windows"
        context.alive()
        done = _refresher(context.values)(context.values["rollup"], window.start, window.end)
        return StepResult(rows_read=1, rows_written=1, detail={"refreshed": str(done)})


_NOTES = ("rows are counted in steps: how many buckets each has shows when it is done",)


def _refresher(values: Values) -> Callable[..., Any]:
    """Return what recomputes a window of a rollup.

    Raises:
        BackfillRefused: this backend has no rollups.
    """
    try:
        backend = get_backend(values["backend"])
    except ImproperlyConfigured as error:
        raise BackfillRefused(str(error)) from error
    refresh: Callable[..., Any] | None = getattr(backend, "refresh_rollup", None)
    if refresh is None:
        raise BackfillRefused(
            f"{type(backend).__name__} (backend {backend.alias!r}) has no rollups to recompute"
        )
    return refresh
