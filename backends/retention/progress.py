"""How far retention has come with one target, kept in the database: it goes on after SIGKILL."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from django.apps import apps

from tailrace.backends.rollups.ranges import MIN_US

logger = logging.getLogger("tailrace")


class Progress(msgspec.Struct, kw_only=True):
    """One target's state. A pass goes over all that is old; it may take several runs."""

    position_us: int | None = None
    """Where the pass that is under way goes on; ``None`` between passes."""
    policy: str = ""
    """What that pass, or the last one, went by."""
    examined_us: int = MIN_US
    """Before it, passes have seen everything; what they left is held."""
    full_us: int = 0
    """When a pass last began at the beginning."""
    rows: int = 0
    """How many rows the pass that is under way has deleted."""
    before_us: int = MIN_US
    """How far it may go."""
    waits_for: str = ""
    """What keeps it from going further."""
    finished_us: int = 0
    """When a pass last came to its end."""
    last_rows: int = 0
    """How many rows that pass deleted."""
    total_rows: int = 0
    """... and all of them."""


class ProgressStore:
    """The progress of a backend's targets."""

    def __init__(self, backend: str, using: str) -> None:
        """Take the backend's alias and that of its database."""
        self._backend = backend
        self._using = using

    def load(self, target: str) -> Progress:
        """Return a target's progress; a new one where there is none that can be read."""
        row = self._rows().filter(target=target).first()
        return Progress() if row is None else _read(row)

    def save(self, target: str, progress: Progress) -> None:
        """Keep a target's progress."""
        state = msgspec.json.encode(progress).decode()
        self._rows().update_or_create(
            backend=self._backend, target=target, defaults={"state": state}
        )

    def all(self) -> dict[str, Progress]:
        """Return the progress of each target that ever had any."""
        return {row.target: _read(row) for row in self._rows().order_by("target")}

    def _rows(self) -> Any:
        model: Any = apps.get_model("tailrace", "RetentionState")
        return model._base_manager.using(self._using).filter(backend=self._backend)


def _read(row: Any) -> Progress:
    try:
        return msgspec.json.decode(row.state, type=Progress)
    except msgspec.DecodeError as error:
        logger.warning("retention of %r starts anew, its state cannot be read: %s", row, error)
        return Progress()
