from __future__ import annotations

from typing import Any

import pytest

from tailrace.backends.memory import MemoryBackend
from tailrace.backends.testing import MemoryStream, WriterContract
from tailrace.backends.testing.draining import CONFIG, drain
from tailrace.backends.testing.frames import issue, wire_event
from tailrace.pipeline.errors import ConfigurationError
from tailrace.pipeline.producer import Producer


class TestMemoryBackend(WriterContract):
    is_shared_between_processes = False
    examples = 200

    def make_backend(self) -> MemoryBackend:
        return MemoryBackend()

    def stored_events(self, backend: Any) -> list[dict[str, Any]]:
        return [event.as_dict() for event in backend.events()]

    def count_dead_letters(self, backend: Any) -> int:
        return len(backend.letters())


def drained(backend: MemoryBackend, *measurements: str) -> tuple[MemoryStream, Producer]:
    stream, producer = MemoryStream(CONFIG), Producer(1, {})
    stream.send(0, [issue(producer, [wire_event(n, m)]).frame for n, m in enumerate(measurements)])
    drain(backend, stream)
    return stream, producer


def test_events_of_one_measurement() -> None:
    backend = MemoryBackend()
    drained(backend, "checkout", "query", "checkout")
    assert [event.fields for event in backend.events("checkout")] == [{"number": 0}, {"number": 2}]
    assert len(backend.events()) == 3
    assert backend.events("nothing") == []


def test_max_events_keeps_the_newest() -> None:
    backend = MemoryBackend("default", {"MAX_EVENTS": 2})
    drained(backend, "a", "b", "c", "d")
    assert [event.measurement for event in backend.events()] == ["c", "d"]
    assert sum(amount for _, outcome, amount in backend.ledger_totals() if outcome == "stored") == 4


def test_without_max_events_all_are_kept() -> None:
    backend = MemoryBackend()
    drained(backend, *["a"] * 1000)
    assert len(backend.events()) == 1000


@pytest.mark.parametrize("value", [0, -1, True, "7", 1.5, None])
def test_a_wrong_max_events_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="MAX_EVENTS"):
        MemoryBackend("default", {"MAX_EVENTS": value})


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'MAX_EVENT',.* It takes: MAX_EVENTS\."):
        MemoryBackend("default", {"MAX_EVENT": 3})


def test_clear_forgets_what_was_stored_and_goes_on() -> None:
    backend = MemoryBackend()
    stream, producer = drained(backend, "a", "b")
    stream.send(0, [b"no frame"])
    drain(backend, stream)
    assert len(backend.letters()) == 1
    backend.clear()
    assert (backend.events(), backend.letters()) == ([], [])
    assert (list(backend.ledger_totals()), backend.producer_totals()) == ([], {})
    stream.send(0, [issue(producer, [wire_event(9, "c")]).frame])
    drain(backend, stream)
    assert [event.measurement for event in backend.events()] == ["c"]
    assert backend.producer_totals() == {"c": 1}, "what came before is no loss"
    assert dict(row[1:] for row in backend.ledger_totals()) == {"captured": 1, "stored": 1}
