"""The kind ``replay``: dead letters put back, chosen by what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from tailrace.backends import get_backend
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
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.parked import LetterSelection
from tailrace.pipeline.replay import SLICE_EVENTS, Replay
from tailrace.pipeline.runtime import runtime

from .backend_choice import backend_parameter

_LETTERS_A_SECOND = 2_000


class ReplayLetters(Kind):
    """Replays dead letters; each step is idempotent, as a letter is replayed once."""

    name = "replay"
    title = "Replay dead letters"
    description = (
        "Puts dead letters back whose storage would take them now. Those that are refused again "
        "stay, with the new reason."
    )

    def parameters(self) -> Sequence[Parameter]:
        return (
            backend_parameter("Backend"),
            Parameter(name="measurement", label="Measurement", help="Without: of all."),
            Parameter(name="reason", label="Reason", help="Only those whose reason contains it."),
        )

    def check(self, values: Values) -> None:
        try:
            first = next(self._replay(values).listed(_selection(values)), None)
        except BackendError as error:
            raise BackfillRefused(f"dead letters cannot be read: {error}") from error
        if first is None:
            raise BackfillRefused("no such dead letter waits, so nothing was started")

    def estimate(self, values: Values) -> Estimate:
        measurement, reason = values["measurement"], values["reason"]
        rows = sum(
            count.letters
            for count in get_backend(values["backend"]).dead_letter_counts()
            if measurement in (None, count.measurement) and (reason or "") in count.reason
        )
        return Estimate(rows=rows, seconds=rows / _LETTERS_A_SECOND, is_exact=True)

    def plan(self, values: Values) -> Iterator[Slice]:
        letters = self._replay(values).listed(_selection(values))
        while some := [letter.id for letter in islice(letters, SLICE_EVENTS)]:
            label = f"letters {some[0]} to {some[-1]}"
            yield Slice(label=label, rows=len(some), spec={"ids": some})

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        ids = tuple(slice_.spec["ids"])
        done = self._replay(context.values).run(
            LetterSelection(ids=ids), on_slice=lambda result: context.alive()
        )
        return StepResult(
            rows_read=len(ids),
            rows_written=done.events,
            rows_present=len(ids) - done.replayed - done.refused - done.impossible,
            rows_refused=done.refused + done.impossible + done.split,
            notes=tuple(f"letter {letter}: {reason}" for letter, reason in done.details[:5]),
        )

    def _replay(self, values: Values) -> Replay:
        alias = values["backend"]
        return Replay(get_backend(alias), runtime().config.backends[alias].accepts)


def _selection(values: Values) -> LetterSelection:
    return LetterSelection(measurement=values["measurement"], reason=values["reason"])
