"""Every error Tailrace raises, in one tree.

::

    TailraceError
    ├── ConfigurationError          a setting is wrong; says what to write instead
    ├── FrameError                  bytes that are not one of our frames
    ├── StreamUnavailable           Redis cannot be reached, or answers too late
    │   └── StreamFull              Redis, or our share of it, has no room
    ├── SpoolUnavailable            the on-disk spool cannot be written or read
    └── BackendError
        ├── TransientBackendError   try again later: locked, down, overloaded
        ├── RejectedEvents          the storage refuses these events, always
        ├── BackendMisconfigured    nothing will work until somebody changes something
        ├── CheckpointConflict      another drainer was here first
        └── NotSupportedByBackend   this backend cannot do it; says which can

All of them can be pickled, because Celery carries them between processes.
"""

from __future__ import annotations

from collections.abc import Mapping


class TailraceError(Exception):
    """Do not raise directly."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class ConfigurationError(TailraceError):
    """A Tailrace setting is wrong."""


class FrameError(TailraceError):
    """These bytes are not a frame that this version can read."""


class StreamUnavailable(TailraceError):
    """Redis cannot be reached, or did not answer in time."""


class StreamFull(StreamUnavailable):
    """Redis has no room for more frames."""


class SpoolUnavailable(TailraceError):
    """The spool directory cannot be written or read."""


class BackendError(TailraceError):
    """A storage backend failed. Do not raise directly."""


class TransientBackendError(BackendError):
    """The storage cannot take events now; the same write may succeed later."""

    def __init__(self, message: str | None = None, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[type, tuple[str, float]]:
        return type(self), (str(self), self.retry_after_seconds)


class RejectedEvents(BackendError):
    """The storage refuses these events and would refuse them again."""

    def __init__(
        self, message: str | None = None, reasons: Mapping[int, str] | None = None
    ) -> None:
        """Say which events are bad, if that is known.

        Args:
            message: What the storage says.
            reasons: Why, by position among the events that were to be written. Those that are
                not in it may be good, so that they are tried again without the others.
        """
        super().__init__(message)
        self.reasons = dict(reasons or {})

    def __reduce__(self) -> tuple[type, tuple[str, dict[int, str]]]:
        return type(self), (str(self), self.reasons)


class BackendMisconfigured(BackendError):
    """The storage is set up wrongly; nothing is lost, and nothing is stored until it is mended."""


class CheckpointConflict(BackendError):
    """Another drainer moved this shard's checkpoint; its work stands, ours is undone."""


class NotSupportedByBackend(BackendError):
    """This backend cannot do what was asked of it."""
