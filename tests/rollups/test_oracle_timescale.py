"""Any order of events, refreshes, retention and deaths on TimescaleDB: a rollup equals its rows."""

from __future__ import annotations

import time
from contextlib import suppress

from hypothesis import given

from rollups.conftest import Engine
from rollups.sessions import Sessions
from rollups.stories import Story, TimeIsUp, check_time, stories, told
from rollups.telling import tell

CASES = 8


def test_a_rollup_equals_its_rows_in_hypertables(timescale_engine: Engine) -> None:
    compared = []
    started = time.monotonic()
    sessions = Sessions(timescale_engine.alias)

    @given(stories())
    @told(CASES, share=50)
    def check(story: Story) -> None:
        check_time(started)
        compared.append(tell(timescale_engine, sessions, *story))

    try:
        with suppress(TimeIsUp):
            check()
    finally:
        sessions.close()
    print(f"{len(compared)} cases, {sum(compared)} partials compared")
    assert sum(compared) > len(compared), "hardly anything was ever materialised"
