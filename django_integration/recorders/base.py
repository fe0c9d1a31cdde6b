"""The contract of a recorder: it observes one source in the host and makes events.

A recorder is one module with one class::

    from tailrace.django_integration.recorders import (
        SUPPRESSED, Recorder, RecorderOptions, current_trace, emit, shield,
    )

    class MailRecorder(Recorder):
        name = "mail"

        class Options(RecorderOptions):
            subject: bool = False

        def install(self) -> None:
            some_signal.connect(self._sent, dispatch_uid="tailrace.mail")

        def uninstall(self) -> None:
            some_signal.disconnect(dispatch_uid="tailrace.mail")

        def _sent(self, message, **kwargs) -> None:
            with shield("mail"):
                trace_id = current_trace()
                if trace_id is not SUPPRESSED:
                    raw = (len(message.to), message.subject)
                    emit("mail", time.time_ns(), self._finish, raw, trace_id)

        def _finish(self, raw):
            recipients, subject = raw
            fields = {"recipients": recipients}
            if self.options.subject:
                fields["subject"] = self.masker.mask_text(subject)
            return {}, fields

and one line of settings: ``TAILRACE = {"RECORDERS": {"shop.telemetry.MailRecorder": {}}}``.

The hook runs on the request's thread: it takes scalars and returns. Formatting and masking
belong into the method that ``emit`` is given; the flusher's thread calls it. What is handed
over must keep no request, model, connection or traceback alive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from tailrace.pipeline.masking import Masker


class RecorderOptions(msgspec.Struct, frozen=True, rename="upper", forbid_unknown_fields=True):
    """What a recorder can be told in the settings; ``subject`` is written ``SUBJECT`` there."""


class Recorder(ABC):
    """Observes one source."""

    name: ClassVar[str]
    """How the settings call it, and how its problems are reported."""

    Options: ClassVar[type[RecorderOptions]] = RecorderOptions
    """The options, their types and defaults."""

    def __init__(self, options: Mapping[str, Any], masker: Masker) -> None:
        """Make a recorder that does nothing until :meth:`install`.

        Args:
            options: Its entry in ``TAILRACE["RECORDERS"]``.
            masker: Knows what is secret, the site's own words included.

        Raises:
            msgspec.ValidationError: an option is unknown or has a wrong type.
        """
        self.options = self.convert_options(options)
        self.masker = masker

    @classmethod
    def convert_options(cls, options: Mapping[str, Any]) -> Any:
        """Return ``options`` as an instance of :attr:`Options`.

        Raises:
            msgspec.ValidationError: an option is unknown or has a wrong type.
        """
        return msgspec.convert(dict(options), cls.Options)

    @abstractmethod
    def install(self) -> None:
        """Begin to observe. Must not fail or observe twice when called again."""

    @abstractmethod
    def uninstall(self) -> None:
        """Stop, and leave no trace in the host. Must not fail when nothing is installed."""
