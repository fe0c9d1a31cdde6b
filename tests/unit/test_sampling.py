from __future__ import annotations

import random
import tracemalloc

import pytest

from tailrace.pipeline.config import Config
from tailrace.pipeline.sampling import Sampler


def trace(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def test_a_trace_is_kept_whole_or_not_at_all_in_every_process() -> None:
    rng = random.Random(1)
    config = Config(sampling={"*": 0.3})
    here, elsewhere = Sampler(config), Sampler(config)
    kept = 0
    for _ in range(2_000):
        trace_id = trace(rng)
        decisions = {s.keeps(m, trace_id) for s in (here, elsewhere) for m in ("request", "query")}
        assert len(decisions) == 1
        kept += decisions.pop()
    assert 500 < kept < 700


def test_a_trace_that_a_lower_rate_keeps_a_higher_one_keeps_too() -> None:
    rng = random.Random(2)
    sampler = Sampler(Config(sampling={"query": 0.2, "request": 0.6}))
    for _ in range(1_000):
        trace_id = trace(rng)
        assert sampler.keeps("request", trace_id) >= sampler.keeps("query", trace_id)


@pytest.mark.parametrize("trace_id", [None, "", "not hexadecimal", "été"])
def test_without_a_usable_trace_the_share_is_right(trace_id: str | None) -> None:
    sampler = Sampler(Config(sampling={"m": 0.5}))
    kept = sum(sampler.keeps("m", trace_id) for _ in range(4_000))
    assert 1_800 < kept < 2_200


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 0), (1.0, 500)])
def test_none_and_all_are_exact(rate: float, kept: int) -> None:
    sampler = Sampler(Config(sampling={"m": rate}))
    traces = [None, "00000000", "f" * 32, "0" * 32, "zz"] * 100
    assert sum(sampler.keeps("m", trace_id) for trace_id in traces) == kept


def test_an_exact_name_wins_over_a_pattern() -> None:
    config = Config(sampling={"job*": 0.0, "job.mail": 1.0})
    sampler = Sampler(config)
    assert [sampler.keeps(m, None) for m in ("job.mail", "job.pdf", "request")] == [
        True,
        False,
        True,
    ]
    assert sampler.is_active
    assert not Sampler(Config(sampling={"m": 1.0})).is_active


def test_names_that_never_repeat_take_no_more_memory() -> None:
    sampler = Sampler(Config(sampling={"m": 0.5}))
    for number in range(2_000):
        sampler.keeps(f"a{number}", None)
    tracemalloc.start()
    for number in range(20_000):
        sampler.keeps(f"b{number}", None)
    grown_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown_bytes < 100_000
