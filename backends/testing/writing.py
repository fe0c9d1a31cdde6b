"""The writing half of the contract, as one class to subclass."""

from __future__ import annotations

from .concurrency import ConcurrencyContract
from .draining import DrainContract
from .interleavings import InterleavingContract
from .storing import StoringContract
from .values import ValuesContract


class WriterContract(
    StoringContract, ValuesContract, ConcurrencyContract, DrainContract, InterleavingContract
):
    """Everything that :mod:`tailrace.backends.base` promises about writing.

    Subclass it in a test module, override :meth:`make_backend` and, where events can be read
    again, :meth:`stored_events`; the other hooks are optional. A test that does not apply is
    skipped with its reason.
    """
