"""Where copies and imports go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from tailrace.backends.backfill.contract import OverwritingSink
from tailrace.backends.backfill.selection import Selection, Window
from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Estimate,
    Slice,
    StepContext,
    StepResult,
    Waiting,
)
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import Event

from .server import Capabilities


class Target(Protocol):
    """What a sink asks of its backend, beside the contract."""

    def is_bucket_missing(self) -> bool: ...
    def ensure_bucket(self) -> bool: ...
    def capabilities(self) -> Capabilities: ...
    def stored_ids(
        self, measurement: str, start: datetime | None, end: datetime | None
    ) -> Iterable[bytes]: ...


class InfluxSink(OverwritingSink):
    """Makes a bucket that is missing, and looks for ids only."""

    def __init__(
        self, backend: Any, selection: Selection | None = None, wait: Waiting | None = None
    ) -> None:
        """Keep all; ask nothing yet. See :class:`OverwritingSink`."""
        super().__init__(backend, selection, wait)
        self._target: Target = backend

    def check(self, estimate: Estimate) -> None:
        try:
            self._target.capabilities().require("queries")
            is_missing = self._target.is_bucket_missing()
        except BackendError as error:
            raise BackfillRefused(f"the target cannot be written: {error}") from error
        if not is_missing:  # or there is nothing that could be looked at
            super().check(estimate)

    def write(
        self, context: StepContext, slice_: Slice, pieces: Iterable[Sequence[Event]]
    ) -> StepResult:
        if self._target.is_bucket_missing():
            self._target.ensure_bucket()
        return super().write(context, slice_, pieces)

    def ids(self, selection: Selection, window: Window) -> Iterable[bytes]:
        if selection.model is not None:
            return super().ids(selection, window)
        return self._target.stored_ids(selection.measurement, *window)

    def taken_ids(self, selection: Selection, window: Window) -> Collection[bytes]:
        return set(self._target.stored_ids(selection.measurement, *window))
