"""``make bench``: every benchmark in turn; ``make bench ARGS=overhead`` one of them.

Nothing here is a timed test: these machines are shared, so only ratios within one run hold.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import time

BENCHMARKS = {
    "overhead": "CPU that telemetry adds to a request, beside the peers",
    "record": "events a second from record() to Redis",
    "latency": "from a request's answer to its row",
    "drain": "PostgreSQL: the drain beside a bare COPY and bulk_create",
    "backfill": "copies under kill -9 and live traffic; PostgreSQL to PostgreSQL beside the drain",
    "timescale": "TimescaleDB: aggregate by hour, from readings and a continuous aggregate",
    "rollups": "p95 over 30 days by hour, from a rollup and from the rows",
    "rollup_costs": "refreshes after late events by the size of the table; the drain with rollups",
}


def main() -> int:
    """Run what was asked for; return 0 if all of it ran."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}")
    # Each parses its own arguments where it has any; ours are not for them.
    sys.argv = sys.argv[:1]
    print(f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}")
    for name in names:
        print(f"\n== {name}: {BENCHMARKS[name]}", flush=True)
        importlib.import_module(f"benchmarks.bench_{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
