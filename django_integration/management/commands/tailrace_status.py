"""``manage.py tailrace_status``: lag, depth, the ledger, and what beat does."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from tailrace.django_integration.management.base import TailraceCommand
from tailrace.django_integration.management.rollup_status import upkeep_lines, upkeep_report
from tailrace.pipeline.errors import TailraceError
from tailrace.pipeline.ledger import NOTE, Balance
from tailrace.pipeline.redis_url import safe_url
from tailrace.pipeline.runtime import Runtime, ShardStatus, runtime

_ATTEMPTS = 5


class Command(TailraceCommand):
    """Show the state of the pipeline; exit 1 unless every ledger balances."""

    help = (
        "Show lag and depth per shard and backend, what beat did for rollups and retention, and "
        "the ledger: captured = stored + sampled out + dropped + dead-lettered + in flight. Exit "
        "status 1 unless it balances."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--backend", help="only this backend", metavar="ALIAS")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--ledger", action="store_true", help="print the ledger line only")
        form.add_argument("--json", action="store_true", help="print everything as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        process = runtime()
        wanted = options["backend"]
        if wanted is not None and wanted not in process.aliases:
            raise CommandError(f"no backend {wanted!r}; there are: {', '.join(process.aliases)}")
        aliases = [wanted] if wanted else process.aliases
        try:
            reports = [_settled_report(process, alias) for alias in aliases]
        except (TailraceError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps([_as_dict(report) for report in reports], indent=2))
        elif options["ledger"]:
            for report in reports:
                self.stdout.write(report.balance.line())
        else:
            self.stdout.write(f"Redis     {safe_url(process.config.redis_url)}")
            for report in reports:
                self._print(report)
        if not all(report.is_right for report in reports):
            raise SystemExit(1)

    def _print(self, report: _Report) -> None:
        self.stdout.write(f"\nBackend   {report.alias} ({report.backend})")
        self.stdout.write(f"{'shard':>5} {'entries':>8} {'events':>8} {'lag':>9}  state")
        for shard in report.shards:
            state = "draining" if shard.is_draining else "waiting" if shard.depth else "empty"
            events = sum(shard.in_flight.values())
            self.stdout.write(
                f"{shard.shard:>5} {shard.depth:>8} {events:>8} "
                f"{shard.lag_seconds:>7.1f} s  {state}"
            )
        for measurement, balance in sorted(report.by_measurement.items()):
            self.stdout.write(f"{measurement:<20} {_sentence(balance)}")
        for note, amount in sorted(report.notes.items()):
            self.stdout.write(f"note      {amount} values {note}")
        for line in upkeep_lines(report.upkeep):
            self.stdout.write(line)
        for problem in report.problems():
            self.stdout.write(self.style.ERROR(problem))
        self.stdout.write(report.balance.line())


class _Report:
    """What there is to say about one backend."""

    def __init__(
        self, alias: str, backend: str, shards: list[ShardStatus], rows: list[tuple[str, str, int]]
    ) -> None:
        self.alias = alias
        self.backend = backend
        self.shards = shards
        in_flight: dict[str, int] = {}
        for shard in shards:
            for measurement, amount in shard.in_flight.items():
                in_flight[measurement] = in_flight.get(measurement, 0) + amount
        names = {measurement for measurement, _, _ in rows} | in_flight.keys()
        self.by_measurement = {
            name: Balance.of(
                [(outcome, amount) for m, outcome, amount in rows if m == name],
                in_flight.get(name, 0),
            )
            for name in names
        }
        self.balance = Balance.of(
            [(outcome, amount) for _, outcome, amount in rows], sum(in_flight.values())
        )
        self.booked = {name: b.captured - b.in_flight for name, b in self.by_measurement.items()}
        self.notes: dict[str, int] = {}
        for _, outcome, amount in rows:
            if outcome.startswith(NOTE):
                kind = outcome.removeprefix(NOTE)
                self.notes[kind] = self.notes.get(kind, 0) + amount
        self.producers: dict[str, int] = {}
        self.upkeep: dict[str, Any] = {}
        """Jobs, rollups and retention."""

    @property
    def is_right(self) -> bool:
        return not self.problems()

    def problems(self) -> list[str]:
        problems = [
            f"{name}: the ledger does not balance: {_sentence(balance)}"
            for name, balance in sorted(self.by_measurement.items())
            if not balance.is_balanced
        ]
        problems += [
            f"{name}: the producers counted {self.producers.get(name, 0)} events, the ledger "
            f"has {self.booked.get(name, 0)}"
            for name in sorted(self.producers.keys() | self.booked.keys())
            if self.producers.get(name, 0) != self.booked.get(name, 0)
        ]
        return problems


def _settled_report(process: Runtime, alias: str) -> _Report:
    """Read both sides of the books, and again if a drain committed in between."""
    report = _report(process, alias)
    for _ in range(_ATTEMPTS):
        if report.is_right:
            break
        report = _report(process, alias)
    return report


def _report(process: Runtime, alias: str) -> _Report:
    backend = process.backend(alias)
    rows = list(backend.ledger_totals())
    producers = backend.producer_totals()
    report = _Report(alias, type(backend).__name__, process.status(alias), rows)
    accepts = process.config.backends[alias].accepts
    report.producers = {name: n for name, n in producers.items() if accepts(name)}
    report.upkeep = upkeep_report(backend)
    return report


def _sentence(balance: Balance) -> str:
    parts = [f"captured {balance.captured} = stored {balance.stored}"]
    others = {
        "sampled out": balance.sampled_out,
        **{f"dropped ({reason})": amount for reason, amount in balance.dropped.items()},
        "dead-lettered": balance.dead_lettered,
        "in flight": balance.in_flight,
    }
    parts += [f"{name} {amount}" for name, amount in others.items() if amount]
    return " + ".join(parts)


def _as_dict(report: _Report) -> dict[str, Any]:
    return {
        "backend": report.alias,
        "shards": [
            {
                "shard": shard.shard,
                "entries": shard.depth,
                "events": shard.in_flight,
                "lag_seconds": round(shard.lag_seconds, 3),
                "is_draining": shard.is_draining,
            }
            for shard in report.shards
        ],
        "ledger": {
            name: {
                "captured": balance.captured,
                "stored": balance.stored,
                "sampled_out": balance.sampled_out,
                "dropped": balance.dropped,
                "dead_lettered": balance.dead_lettered,
                "in_flight": balance.in_flight,
            }
            for name, balance in sorted(report.by_measurement.items())
        },
        "notes": report.notes,
        **report.upkeep,
        "problems": report.problems(),
        "is_balanced": report.is_right,
    }
