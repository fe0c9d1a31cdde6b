"""``make soak``: the site under load for long, with one fault after the other.

``python -m benchmarks.soak`` (in ``tests/``). Every event and every request has a number. At the
end each number is in the table once, or the ledger has counted it; processes have not grown,
Redis holds what it held before, and nothing waits. The seed that is printed repeats the order of
the faults (``--seed``).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.soak_site import UNSENT_SECONDS, SoakSite
from faults.harness import MEASUREMENT

SETTLED_LAG_SECONDS = 4.0
SETTLE_TIMEOUT_SECONDS = 180.0
CALM_SECONDS = 5.0
"""Of undisturbed load after each fault; memory is looked at then."""
RSS_GROWTH_MAX_BYTES = 24 * 2**20
REDIS_GROWTH_MAX_BYTES = 64 * 2**10

Rss = dict[tuple[str, int], int]


@dataclass
class Outcomes:
    """What the run has seen."""

    rows: list[tuple[str, int, float, float]] = field(default_factory=list)
    """Fault, how many seconds since the start, seconds that it took, seconds to settle."""
    rss: list[tuple[float, Rss]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self, is_right: bool, problem: str) -> None:
        """Note a problem unless all is right."""
        if not is_right:
            self.problems.append(problem)


def main() -> int:
    """Run the soak; return 0 if everything held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="each fault comes once anyway")
    parser.add_argument("--rate", type=int, default=500, help="numbered events a second")
    parser.add_argument("--seed", type=int, help="repeats the faults of a run")
    parser.add_argument("--black-hole-seconds", type=float, default=60)
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"SEED={seed}: {options.minutes:g} min, {options.rate} events/s", flush=True)
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory(prefix="tailrace-soak-", dir="/tmp") as folder:
        # The server's user must get to its files, and the folder is ours alone.
        Path(folder).chmod(0o755)
        soak = SoakSite(Path(folder), options.rate, random.Random(seed))
        try:
            baseline_bytes = _run(soak, outcomes, options)
            _wind_down(soak, outcomes)
            _judge(soak, outcomes, baseline_bytes)
        finally:
            soak.load.stop()
            soak.close()
    _print(outcomes)
    return 1 if outcomes.problems else 0


def _run(soak: SoakSite, outcomes: Outcomes, options: argparse.Namespace) -> int:
    """Do one fault after the other; return what Redis held before the first."""
    soak.load.start()
    _settle(soak)
    baseline_bytes = soak.redis_bytes()
    started = time.monotonic()
    kinds: dict[str, Callable[[], None]] = {
        "worker killed": soak.kill_worker,
        "web process killed": soak.kill_web,
        "drain killed": soak.kill_drain,
        "Redis comes back empty": soak.empty_redis,
        "Redis goes back in time": soak.rewind_redis,
        "Redis is restarted": soak.stop_redis,
        "Redis is a black hole": lambda: soak.black_hole(options.black_hole_seconds),
        "PostgreSQL is restarted": soak.restart_postgres,
    }
    end = started + options.minutes * 60
    while not outcomes.rows or time.monotonic() < end:
        for name in soak.randomly.sample(list(kinds), len(kinds)):
            is_new = name not in {row[0] for row in outcomes.rows}
            if not is_new and time.monotonic() > end:
                continue
            began = time.monotonic()
            kinds[name]()
            took = time.monotonic() - began
            settled = _settle(soak)
            outcomes.rows.append((name, round(began - started), took, settled))
            print(f"{began - started:>6.0f} s  {name}: settled after {settled:.1f} s", flush=True)
            time.sleep(CALM_SECONDS)
            outcomes.rss.append((time.monotonic(), soak.rss_bytes()))
    return baseline_bytes


def _settle(soak: SoakSite) -> float:
    """Wait until drains keep up with the load; return after how many seconds."""
    began = time.monotonic()
    while True:
        waiting = soak.waiting()
        if waiting is not None and waiting[0] <= SETTLED_LAG_SECONDS:
            return time.monotonic() - began
        passed = time.monotonic() - began
        assert passed < SETTLE_TIMEOUT_SECONDS, f"after {passed:.0f} s it is still {waiting}"
        time.sleep(1)


def _wind_down(soak: SoakSite, outcomes: Outcomes) -> None:
    """End visitors, web and sender; let the workers drain what is left."""
    soak.load.stop()
    soak.web.stop()
    soak.site.sender.close()
    deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
    while (waiting := soak.waiting()) != (0.0, 0) and time.monotonic() < deadline:
        time.sleep(1)
    outcomes.check(waiting == (0.0, 0), f"the workers left (lag, entries) {waiting}")
    # What the workers themselves recorded leaves them as they end.
    for worker in (soak.worker, soak.steady):
        worker.terminate()
        worker.wait(60)
    soak.site.drain()


def _judge(soak: SoakSite, outcomes: Outcomes, baseline_bytes: int) -> None:
    """Compare what was sent with what is there."""
    report = soak.site.status()
    events, sent = report["ledger"][MEASUREMENT], soak.load.sent
    [(stored, distinct)] = soak.site.rows(
        "SELECT count(*), count(DISTINCT fields->>'n') FROM tailrace_event "
        f"WHERE measurement = '{MEASUREMENT}'"
    )
    lost = sum(events["dropped"].values())
    print(f"\n{sent} events sent: {stored} rows, {lost} counted as lost {events['dropped']}")
    outcomes.check(stored == distinct, f"{stored - distinct} events are stored twice")
    outcomes.check(events["captured"] == sent, f"captured {events['captured']} of {sent} events")
    outcomes.check(distinct + lost == sent, f"{sent - distinct - lost} events are unaccounted for")
    _judge_requests(soak, outcomes, sum(report["ledger"]["request"]["dropped"].values()))
    now_bytes = soak.redis_bytes()
    print(f"Redis: {baseline_bytes} bytes of ours before, {now_bytes} after")
    is_small = now_bytes <= baseline_bytes + REDIS_GROWTH_MAX_BYTES
    outcomes.check(is_small, f"Redis grew from {baseline_bytes} to {now_bytes} bytes")
    _judge_memory(outcomes)


def _judge_requests(soak: SoakSite, outcomes: Outcomes, lost: int) -> None:
    rows = soak.site.rows(
        "SELECT fields->>'query_string', count(*) FROM tailrace_event "
        "WHERE measurement = 'request' AND fields->>'query_string' LIKE 'page=%' GROUP BY 1"
    )
    times = {int(query.removeprefix("page=")): count for query, count in rows}
    doubled = [page for page, count in times.items() if count > 1]
    missing = {page: at for page, at in soak.load.answered.items() if page not in times}
    kills = soak.web_killed
    late = [p for p, at in missing.items() if not any(0 <= k - at < UNSENT_SECONDS for k in kills)]
    print(
        f"{len(soak.load.answered)} requests answered: {len(times)} recorded, {lost} counted as "
        f"lost, {len(missing) - len(late)} went with {len(kills)} killed processes' memory"
    )
    outcomes.check(not doubled, f"requests recorded twice: {doubled[:10]} of {len(doubled)}")
    outcomes.check(len(late) <= lost, f"{len(late)} requests are missing, {lost} are counted")


def _judge_memory(outcomes: Outcomes) -> None:
    print(f"\n{'process':<20} {'first':>8} {'last':>8} {'slope':>12}")
    first: dict[tuple[str, int], tuple[float, int]] = {}
    # What a process needs to get going is no growth: the first quarter does not count.
    for at, rss in outcomes.rss[len(outcomes.rss) // 4 :]:
        for process, size in rss.items():
            first.setdefault(process, (at, size))
    end, last = outcomes.rss[-1]
    for process, size in last.items():
        began, before = first[process]
        hours = max(end - began, 1.0) / 3600
        grown = size - before
        name = f"{process[0]} {process[1]}"
        slope = grown / 2**20 / hours
        print(f"{name:<20} {before / 2**20:>5.1f} MB {size / 2**20:>5.1f} MB {slope:>7.1f} MB/h")
        outcomes.check(grown < RSS_GROWTH_MAX_BYTES, f"{name} grew by {grown / 2**20:.1f} MB")


def _print(outcomes: Outcomes) -> None:
    print(f"\n{'fault':<26} {'times':>5} {'slowest to settle':>18}")
    for name in sorted({row[0] for row in outcomes.rows}):
        settled = [row[3] for row in outcomes.rows if row[0] == name]
        print(f"{name:<26} {len(settled):>5} {max(settled):>16.1f} s")
    for problem in outcomes.problems:
        print(f"FAILED: {problem}")
    print("The soak failed." if outcomes.problems else "Everything held.")


if __name__ == "__main__":
    sys.exit(main())
