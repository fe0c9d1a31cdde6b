"""What four sessions do at once on PostgreSQL, however they meet: a rollup equals its rows."""

from __future__ import annotations

import time
from contextlib import suppress

from hypothesis import given

from rollups.conftest import Engine
from rollups.sessions import Sessions
from rollups.stories import LANES, Lanes, TimeIsUp, check_time, lanes, told
from rollups.telling import tell_at_once

CASES = 15


def test_a_rollup_equals_its_rows_whoever_writes(postgres_engine: Engine) -> None:
    compared = []
    started = time.monotonic()
    sessions = Sessions(postgres_engine.alias, LANES)

    @given(lanes())
    @told(CASES, share=10)
    def check(story: Lanes) -> None:
        check_time(started)
        compared.append(tell_at_once(postgres_engine, sessions, *story))

    try:
        with suppress(TimeIsUp):
            check()
    finally:
        sessions.close()
    print(f"{len(compared)} cases, {sum(compared)} partials compared")
    assert sum(compared) > len(compared), "hardly anything was ever materialised"
