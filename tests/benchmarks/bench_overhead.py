"""What telemetry adds to a request with 5 ORM queries, beside the peers, in one run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.overhead_site import QUERIES, VARIANTS
from servers import RedisServer

SITE = Path(__file__).with_name("overhead_site.py")


def main(rounds: int = 5, requests: int = 1_000) -> None:
    """Run every variant in turn, ``rounds`` times; print medians and ratios."""
    for options, how in (([], "a connection a request"), (["--persistent"], "one connection")):
        figures: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory)) as server:
            for _ in range(rounds):
                for variant in VARIANTS:
                    figures[variant].append(_run(variant, requests, server, options))
        print(f"CPU of a request with {QUERIES} ORM queries, {how}, median of {rounds}:")
        _report({variant: statistics.median(f) for variant, f in figures.items()})


def _report(medians: dict[str, float]) -> None:
    bare = medians.pop("bare")
    ours = medians["tailrace"] - bare
    print(f"  {'bare':<14} {bare:8.0f} us")
    for variant, median in medians.items():
        added = median - bare
        ratio = "" if variant == "tailrace" else f"  = {added / ours:5.1f} x tailrace"
        print(f"  {variant:<14} {added:+8.0f} us{ratio}")


def _run(variant: str, requests: int, server: RedisServer, options: list[str]) -> float:
    with server.client() as client:
        client.flushall()
    command = [sys.executable, str(SITE), variant, f"--requests={requests}", *options]
    done = subprocess.run(
        [*command, f"--redis-url={server.url()}"], capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise RuntimeError(f"{variant} failed:\n{done.stderr[-3000:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    expected = (requests + 100) * (QUERIES + 1)
    if variant == "tailrace" and figures["captured"] < expected:
        raise RuntimeError(f"only {figures['captured']} of {expected} events were captured")
    return float(figures["cpu_us"])


if __name__ == "__main__":
    main()
