"""What four sessions do at once on PostgreSQL, however they meet: a rollup equals its rows."""

from __future__ import annotations

from hypothesis import given

from rollups.conftest import Engine
from rollups.oracle import Sessions, tell_at_once
from rollups.stories import LANES, Lanes, lanes, told

CASES = 15


def test_a_rollup_equals_its_rows_whoever_writes(postgres_engine: Engine) -> None:
    compared = []
    sessions = Sessions(postgres_engine.alias, LANES)

    @given(lanes())
    @told(CASES, share=10)
    def check(story: Lanes) -> None:
        compared.append(tell_at_once(postgres_engine, sessions, *story))

    try:
        check()
    finally:
        sessions.close()
    print(f"{len(compared)} cases, {sum(compared)} partials compared")
    assert sum(compared) > len(compared), "hardly anything was ever materialised"
