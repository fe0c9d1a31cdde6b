from __future__ import annotations

from tailrace.backends.memory import MemoryBackend
from tailrace.backends.testing.reading import ReaderContract


class TestMemory(ReaderContract):
    reading_examples = 120

    def make_backend(self) -> MemoryBackend:
        return MemoryBackend()
