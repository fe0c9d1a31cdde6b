"""What four sessions do at once on PostgreSQL, however they meet: a rollup equals its rows."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from rollups.conftest import Engine
from rollups.sessions import Sessions
from rollups.stories import LANES, lanes, tell_all, told
from rollups.telling import tell_at_once

CASES = 15


def test_a_rollup_equals_its_rows_whoever_writes(postgres_engine: Engine) -> None:
    with closing(Sessions(postgres_engine.alias, LANES)) as sessions:
        tell_all(lanes(), told(CASES, share=10), partial(tell_at_once, postgres_engine, sessions))
