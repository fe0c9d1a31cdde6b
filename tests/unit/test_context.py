"""The trace of the code that runs now."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from tailrace.pipeline import suppress_recording
from tailrace.pipeline.context import (
    SUPPRESSED,
    current_trace,
    enter_trace,
    leave_trace,
    new_trace_id,
    parse_traceparent,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-00",
        f" 00-{TRACE}-{SPAN}-ff ",
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
    ],
)
def test_valid_traceparent(header: str) -> None:
    assert parse_traceparent(header) == (TRACE, SPAN)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-extra",
        f"cc-{TRACE}-{SPAN}-01.extra",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-01\nX: y",
        "٠٠" + f"-{TRACE}-{SPAN}-01",
        "x" * 100_000,
    ],
)
def test_invalid_traceparent_asks_for_a_new_trace(header: str | None) -> None:
    assert parse_traceparent(header) is None


def test_new_trace_ids_are_valid_and_differ() -> None:
    ids = {new_trace_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(parse_traceparent(f"00-{trace_id}-{SPAN}-01") for trace_id in ids)


def test_traces_nest_and_are_restored() -> None:
    assert current_trace() is None
    outer = enter_trace("outer")
    inner = enter_trace("inner")
    assert current_trace() == "inner"
    leave_trace(inner)
    assert current_trace() == "outer"
    leave_trace(outer)
    assert current_trace() is None


def test_suppression_nests_and_works_as_a_decorator() -> None:
    @suppress_recording()
    def ours() -> str | None:
        return current_trace()

    token = enter_trace(TRACE)
    try:
        with suppress_recording(), suppress_recording():
            assert current_trace() is SUPPRESSED
        assert ours() is SUPPRESSED
        assert current_trace() == TRACE
        with pytest.raises(KeyError), suppress_recording():
            raise KeyError
        assert current_trace() == TRACE
    finally:
        leave_trace(token)


def test_threads_start_without_a_trace_and_may_be_given_one() -> None:
    seen: list[str | None] = []
    token = enter_trace(TRACE)
    context = contextvars.copy_context()
    try:
        for target in (lambda: seen.append(current_trace()), lambda: context.run(look)):

            def look() -> None:
                seen.append(current_trace())

            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    finally:
        leave_trace(token)
    assert seen == [None, TRACE]


def test_concurrent_coroutines_keep_their_traces_apart() -> None:
    async def work(trace_id: str) -> bool:
        token = enter_trace(trace_id)
        for _ in range(10):
            await asyncio.sleep(0)
            if current_trace() != trace_id:
                return False
        leave_trace(token)
        return current_trace() is None

    async def main() -> list[bool]:
        return await asyncio.gather(*(work(f"{n}") for n in range(50)))

    assert all(asyncio.run(main()))
