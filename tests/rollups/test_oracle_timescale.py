"""Any order of events, refreshes, retention and deaths on TimescaleDB: a rollup equals its rows."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from rollups.conftest import Engine
from rollups.sessions import Sessions
from rollups.stories import stories, tell_all, told
from rollups.telling import tell

CASES = 8


def test_a_rollup_equals_its_rows_in_hypertables(timescale_engine: Engine) -> None:
    with closing(Sessions(timescale_engine.alias)) as sessions:
        tell_all(stories(), told(CASES, share=50), partial(tell, timescale_engine, sessions))
