"""``manage.py tailrace_retention``: apply the policies now, or show what that would do."""

from __future__ import annotations

import dataclasses
import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from tailrace.backends.registry import backends
from tailrace.django_integration import conf
from tailrace.django_integration.management.base import TailraceCommand
from tailrace.django_integration.rollup_chores import declared_policies
from tailrace.pipeline.context import suppress_recording
from tailrace.pipeline.errors import NotSupportedByBackend, TailraceError

_RUN_SECONDS = 20.0
_WAIT_SECONDS = 1.0
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


class Command(TailraceCommand):
    """Delete what the retention policies say is too old."""

    help = (
        "Delete what TAILRACE['RETENTION'] says is too old, in short slices. It can be stopped "
        "at any time, and goes on with the next run. --dry-run deletes nothing, and shows what "
        "would go and which charts would lose detail."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--backend", metavar="ALIAS", help="only this backend")
        parser.add_argument("--dry-run", action="store_true", help="only show what would go")
        parser.add_argument(
            "--json", action="store_true", help="print what --dry-run shows as JSON, by backend"
        )
        parser.add_argument(
            "--timeout", type=float, default=None, metavar="SECONDS", help="stop after that time"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = options["backend"]
        if wanted is not None and wanted not in backends.aliases:
            raise CommandError(f"no backend {wanted!r}; there are: {', '.join(backends.aliases)}")
        if options["json"] and not options["dry_run"]:
            raise CommandError("--json shows what would go: write --dry-run, too")
        self._policies = declared_policies(conf.get_config())
        self._is_json = options["json"]
        self._forecasts: dict[str, Any] = {}
        deadline = None if options["timeout"] is None else time.monotonic() + options["timeout"]
        for alias in [wanted] if wanted else backends.aliases:
            try:
                with suppress_recording():
                    if options["dry_run"]:
                        self._forecast(alias, backends.get(alias))
                    else:
                        self._sweep(alias, backends.get(alias), deadline)
            except NotSupportedByBackend as error:
                if wanted:
                    raise CommandError(str(error)) from error
                if not self._is_json:
                    self.stdout.write(f"Backend   {alias}: {error}")
            except (TailraceError, ImproperlyConfigured) as error:
                raise CommandError(str(error)) from error
        if self._is_json:
            self.stdout.write(json.dumps(self._forecasts, indent=2))

    def _forecast(self, alias: str, backend: Any) -> None:
        forecasts = backend.forecast_retention(self._policies)
        if self._is_json:
            self._forecasts[alias] = [dataclasses.asdict(each) for each in forecasts]
        else:
            self._show(alias, forecasts)

    def _sweep(self, alias: str, backend: Any, deadline: float | None) -> None:
        """Sweep until nothing is left; one line for each run that did something."""
        self.stdout.write(f"Backend   {alias}")
        while True:
            left = _RUN_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                self.stdout.write("time is up; the rest goes with the next run")
                return
            report = backend.sweep(self._policies, seconds=min(left, _RUN_SECONDS))
            if getattr(report, "is_skipped", False):
                self.stdout.write("another process is at it; waiting for it")
                time.sleep(_WAIT_SECONDS)
                continue
            self.stdout.write(str(report))
            if getattr(report, "is_finished", True):
                return

    def _show(self, alias: str, forecasts: list[Any]) -> None:
        self.stdout.write(f"Backend   {alias}")
        if not forecasts:
            self.stdout.write("no policy is about anything that this backend has")
        for each in forecasts:
            if each.problem:
                self.stdout.write(self.style.ERROR(each.problem))
                continue
            size = _size(each.size_bytes)
            self.stdout.write(f"{each.target}: {each.rows} rows before {each.before}, about {size}")
            if each.waits_for:
                self.stdout.write(f"    needs {each.waits_for}")
            if each.rows:
                for line in each.charts:
                    self.stdout.write(f"    {line}")
        rows, size = (
            sum(each.rows for each in forecasts),
            sum(each.size_bytes for each in forecasts),
        )
        self.stdout.write(f"in all: {rows} rows, about {_size(size)}")


def _size(size_bytes: int) -> str:
    for unit, amount in _UNITS:
        if size_bytes >= amount:
            return f"{size_bytes / amount:.1f} {unit}"
    return f"{size_bytes} B"
