"""Memory of a process whose Redis is gone: bounded by what is configured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

# Ten minutes of 167 events/s, each of 2 kB that do not compress well, at full speed.
_SCRIPT = """
import os, resource, sys
from tailrace.pipeline.config import Config
from tailrace.pipeline.recording import configure, record, flush, _process

configure(Config(
    redis_url="redis://127.0.0.1:1/0", spool_dir=sys.argv[1], buffer_max_bytes=16 * 2**20,
))
def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for number in range(2_000):
    record("warm.up", fields={"text": os.urandom(1_000).hex(), "n": number})
flush()
before = peak_bytes()
for number in range(100_000):
    record("outage", fields={"text": os.urandom(1_000).hex(), "n": number})
flush()
from tailrace.pipeline import recording
producer = recording._process.flusher._producer
dropped = sum(sum(c.values()) for o, c in producer._totals.items() if o.startswith("dropped:"))
print(peak_bytes() - before, dropped)
"""


@pytest.mark.parametrize("has_disk", [True, False])
def test_memory_stays_within_its_bound_while_redis_is_gone(tmp_path: Path, has_disk: bool) -> None:
    spool = tmp_path / "spool"
    if not has_disk:
        spool.write_text("a file where the folder should be: no spool can be made here")
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(spool)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    grown, dropped = map(int, done.stdout.split())
    # Twice the bound: the buffer and the frames that wait are bounded by it each.
    assert grown < 2 * 16 * 2**20 + 8 * 2**20, f"grew by {grown / 2**20:.0f} MB"
    # 200 MB went through: compressed, they fit the spool's 256 MB, and not memory's 16 MB.
    assert (dropped > 0) == (not has_disk)
