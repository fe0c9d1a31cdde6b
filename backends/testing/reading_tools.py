"""What the tests of the reading contract share."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from hypothesis.errors import HypothesisWarning

from tailrace.backends.base import BaseBackend
from tailrace.pipeline.event import Event

from .hooks import Tools
from .reading_data import make

_positions = itertools.count(1)

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)


class ReaderTools(Tools):
    """Nothing to override."""

    reading_examples = 60
    """How many sets of events and questions Hypothesis makes."""

    def stored(self, *events: Event) -> Any:
        """Return a backend that has just these events; untyped, to be asked anything."""
        backend = self.open_shard()
        self.add(backend, events)
        return backend

    def add(self, backend: BaseBackend, events: Sequence[Event]) -> None:
        """Store events."""
        self.commit(backend, f"{next(_positions)}-1", events=events)

    def of_values(self, *values: Any, measurement: str = "m") -> Any:
        """Return a backend with an event for each value of a field ``v``."""
        return self.stored(*(make(measurement, NOON, {}, {"v": value}) for value in values))


def raises(call: Any, *words: str) -> None:
    """Check that a call raises ValueError, and that its message has some words."""
    try:
        answered = call()
    except ValueError as error:
        for word in words:
            assert word in str(error), f"{word!r} is missing in: {error}"  # noqa: PT017
    else:
        raise AssertionError(f"no ValueError, but {answered!r:.200}")


@contextmanager
def other_threads() -> Iterator[None]:
    """Let other threads of the host use ``random`` while Hypothesis draws.

    Hypothesis sees that somebody did, and takes it for the test's own doing.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Do not use the `random` module", HypothesisWarning)
        yield
