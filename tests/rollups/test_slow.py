from __future__ import annotations
import time, random
from rollups.conftest import *
from rollups.oracle import *
from rollups.test_oracle_sqlite import stories, tell, HOUR_US
from hypothesis import given, settings, HealthCheck
import cProfile, pstats
def test_slow(sqlite_engine):
    global PR; PR=cProfile.Profile()
    @given(stories())
    @settings(max_examples=14, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(story):
        t=time.time(); c=time.process_time()
        PR.enable(); tell(sqlite_engine,*story); PR.disable()
        dt=time.time()-t
    check(); pstats.Stats(PR).sort_stats("tottime").print_stats(30); pstats.Stats(PR).sort_stats("cumulative").print_stats(60)
