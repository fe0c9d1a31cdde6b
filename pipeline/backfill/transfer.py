"""The kind that moves events: from a source to a sink, slice by slice."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from .contracts import (
    BackfillRefused,
    Estimate,
    Kind,
    Sink,
    Slice,
    Source,
    StepContext,
    StepResult,
    Values,
)


class Transfer(Kind):
    """Reads from a source and writes to a sink; a subclass says which, by the parameters."""

    @abstractmethod
    def source(self, values: Values) -> Source:
        """Return where events come from.

        Raises:
            BackfillRefused: the parameters contradict each other.
        """

    @abstractmethod
    def sink(self, values: Values) -> Sink:
        """Return where events go.

        Raises:
            BackfillRefused: the parameters contradict each other.
        """

    def check(self, values: Values) -> None:
        source, sink = self.source(values), self.sink(values)
        source.check()
        estimate = source.estimate()
        if not estimate.rows and estimate.is_exact:
            raise BackfillRefused("there is nothing in this selection, so nothing was started")
        sink.check(estimate)

    def estimate(self, values: Values) -> Estimate:
        return self.sink(values).estimate(self.source(values).estimate())

    def plan(self, values: Values) -> Iterator[Slice]:
        return self.source(values).slices()

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        pieces = self.source(context.values).read(slice_)
        return self.sink(context.values).write(context, slice_, pieces)
