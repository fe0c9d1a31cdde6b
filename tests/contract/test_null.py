from __future__ import annotations

from tailrace.backends.null import NullBackend
from tailrace.backends.testing import WriterContract


class TestNullBackend(WriterContract):
    is_shared_between_processes = False
    examples = 50

    def make_backend(self) -> NullBackend:
        return NullBackend()


def test_nothing_is_kept() -> None:
    backend = NullBackend()
    TestNullBackend().test_events_of_many_frames_are_stored_once()
    assert list(backend.ledger_totals()) == []
    assert backend.producer_totals() == {}
