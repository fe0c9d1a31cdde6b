"""The suite that every storage backend passes, yours included.

::

    from tailrace.backends.testing import WriterContract

    class TestMyBackend(WriterContract):
        def make_backend(self): ...
        def stored_events(self, backend): ...

Run it with pytest. docs/writing-a-backend.md walks through it.
"""

from __future__ import annotations

from .stream import MemoryStream
from .writing import WriterContract

__all__ = ["MemoryStream", "WriterContract"]
