"""The reading half of the contract, as one class to subclass."""

from __future__ import annotations

from .reading_aggregates import AggregateContract
from .reading_arguments import ArgumentsContract
from .reading_events import EventsContract


class ReaderContract(EventsContract, AggregateContract, ArgumentsContract):
    """Everything that :mod:`tailrace.backends.reader` promises about events.

    Subclass it in a test module and override :meth:`make_backend`. What is read was written
    through the backend's own transactions.
    """
