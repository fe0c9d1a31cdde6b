"""How large the steps of a copy are: as somebody asks, or as the target likes them."""

from __future__ import annotations

import pytest

from tailrace.backends.memory import MemoryBackend
from tailrace.django_integration.backfills import copying
from tailrace.pipeline.event import Event

ROWS = 10


class Slow(MemoryBackend):
    """Says that it is."""

    def backfill_step_rows(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("target", "asked", "sizes"),
    [(Slow, None, [3, 3, 3, 1]), (Slow, 5, [5, 5]), (MemoryBackend, None, [ROWS])],
)
def test_a_step_is_as_large_as_the_target_likes(
    monkeypatch: pytest.MonkeyPatch,
    target: type[MemoryBackend],
    asked: int | None,
    sizes: list[int],
) -> None:
    source = MemoryBackend("old", {})
    source.add_missing([Event("checkout", n * 1_000_000, {}, {"n": n}) for n in range(ROWS)])
    ends = source, target("new", {})
    monkeypatch.setattr(copying, "backends_of", lambda values: ends)
    values = {"measurement": "checkout", "start": None, "end": None, "slice_rows": asked}
    for kind in (copying.Copy(), copying.Compare()):
        assert [each.rows for each in kind.plan(values)] == sizes
