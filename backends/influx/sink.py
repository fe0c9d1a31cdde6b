"""Where copies and imports go."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from tailrace.backends.backfill.contract import OverwritingSink
from tailrace.backends.backfill.selection import Selection, Window
from tailrace.pipeline.backfill.contracts import BackfillRefused, Estimate, Waiting
from tailrace.pipeline.errors import BackendError


class Target(Protocol):
    """What a sink asks of its backend, beside the contract."""

    def ensure_bucket_if_we_may(self) -> None: ...
    def stored_ids(
        self, measurement: str, start: datetime | None, end: datetime | None
    ) -> Iterable[bytes]: ...


class InfluxSink(OverwritingSink):
    """Makes the bucket before it looks what is there, and looks for ids only."""

    def __init__(
        self, backend: Any, selection: Selection | None = None, wait: Waiting | None = None
    ) -> None:
        """Keep all; ask nothing yet. See :class:`OverwritingSink`."""
        super().__init__(backend, selection, wait)
        self._target: Target = backend

    def check(self, estimate: Estimate) -> None:
        try:
            self._target.ensure_bucket_if_we_may()
        except BackendError as error:
            raise BackfillRefused(f"the target cannot be written: {error}") from error
        super().check(estimate)

    def ids(self, selection: Selection, window: Window) -> Iterable[bytes]:
        if selection.model is not None:
            return super().ids(selection, window)  # by what they say
        return self._target.stored_ids(selection.measurement, *window)
