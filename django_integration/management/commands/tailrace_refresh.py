"""``manage.py tailrace_refresh``: bring a rollup up to date, in a window."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from tailrace.backends.registry import backends
from tailrace.backends.rollups.ranges import Range, shown
from tailrace.backends.rollups.refresh import Refreshed
from tailrace.backends.rollups.slices import Level
from tailrace.django_integration.management.base import TailraceCommand
from tailrace.pipeline.errors import TailraceError


class Command(TailraceCommand):
    """Compute what is out of date in a rollup."""

    help = (
        "Compute what is out of date in the buckets of a rollup that lie within a window. Buckets "
        "that are right are not touched. Without --rollup, all rollups."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--rollup", metavar="NAME", help="only this one")
        parser.add_argument(
            "--start", metavar="TIME", help="2026-01-31, or 2026-01-31T12:00+01:00; the beginning"
        )
        parser.add_argument(
            "--end", metavar="TIME", help="first instant that does not belong; by END_OFFSET"
        )
        parser.add_argument("--backend", metavar="ALIAS", help="only in this backend")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        start, end = (_moment(options[name], f"--{name}") for name in ("start", "end"))
        if start is not None and end is not None and start >= end:
            raise CommandError("--start is not before --end")
        name = options["rollup"]
        done = 0
        for alias in _aliases(options["backend"]):
            try:
                done += self._refresh(alias, name, start, end, is_asked=bool(options["backend"]))
            except (ValueError, ImproperlyConfigured, TailraceError) as error:
                raise CommandError(f"backend {alias!r}: {error}") from error
        if not done:
            where = options["backend"] or ", ".join(backends.aliases)
            wanted = f"no rollup {name!r}" if name else "no rollups"
            raise CommandError(f"There is {wanted} in the backends: {where}.{self._known()}")

    def _refresh(
        self, alias: str, name: str | None, start: Any, end: Any, *, is_asked: bool
    ) -> int:
        backend: Any = backends.get(alias)
        known = backend.rollups() if hasattr(backend, "rollups") else {}
        if is_asked and not known:
            raise ValueError(f"{type(backend).__name__} has no rollups that could be refreshed")
        chosen = [each for each in sorted(known) if name in (None, each)]
        for each in chosen:
            result = backend.refresh_rollup(each, start, end, watch=self._watch)
            self.stdout.write(f"{alias}: {each}: {result}, {result.seconds:.1f} s")
        return len(chosen)

    def _watch(self, level: Level, ranges: list[Range], so_far: Refreshed) -> None:
        first, last = shown(ranges[0].low), shown(ranges[-1].high)
        self.stderr.write(
            f"{level.name}: {first} to {last}, {so_far.rows_read} rows read, "
            f"{so_far.partials} partials written"
        )

    def _known(self) -> str:
        names: set[str] = set()
        for alias in backends.aliases:
            backend: Any = backends.get(alias)
            names |= set(backend.rollups()) if hasattr(backend, "rollups") else set()
        return f" There are: {', '.join(sorted(names))}." if names else ""


def _aliases(wanted: str | None) -> list[str]:
    if wanted is None:
        return backends.aliases
    if wanted not in backends.aliases:
        raise CommandError(f"no backend {wanted!r}; there are: {', '.join(backends.aliases)}")
    return [wanted]


def _moment(text: str | None, option: str) -> datetime | None:
    """Return a time that was typed; one without an offset is meant in ``TIME_ZONE``."""
    if text is None:
        return None
    try:
        found = parse_datetime(text)
        day = parse_date(text) if found is None else None
    except ValueError as error:
        raise CommandError(f"{option} {text!r}: {error}") from error
    if day is not None:
        found = datetime(day.year, day.month, day.day)
    if found is None:
        raise CommandError(f"{option} {text!r} is no time; write 2026-01-31T12:00+01:00")
    return found if timezone.is_aware(found) else timezone.make_aware(found)
