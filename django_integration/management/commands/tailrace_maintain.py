"""Clean up, vacuum and check the databases."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from tailrace.django_integration.databases.maintenance import (
    cleanup_expired_cache_entries,
    cleanup_old_analytics_data,
    run_maintenance,
)
from tailrace.django_integration.databases.secrets import scrub
from tailrace.django_integration.management.base import TailraceCommand


class Command(TailraceCommand):
    """``manage.py tailrace_maintain``."""

    help = "Clean up old rows and expired cache entries, vacuum, create months, check health."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the flags."""
        flag: dict[str, Any] = {"action": "store_true"}
        parser.add_argument("--cleanup", **flag, help="both clean-ups below")
        parser.add_argument(
            "--cleanup-analytics", **flag, help="delete rows older than DATABASE_CLEANUP_RULES say"
        )
        parser.add_argument(
            "--cleanup-cache", **flag, help="delete expired entries of database caches"
        )
        parser.add_argument("--vacuum", **flag, help="vacuum and analyse")
        parser.add_argument("--months", **flag, help="create the coming months of TimeRouter")
        parser.add_argument("--health-check", **flag, help="exit 1 if a database is unhealthy")
        parser.add_argument("--days", type=int, help="age for the clean-up instead of the rules'")
        parser.add_argument(
            "--database", action="append", metavar="ALIAS", help="only this one; may be repeated"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        parts = ("cleanup", "cleanup_analytics", "cleanup_cache", "vacuum", "months")
        if not any(options[part] for part in (*parts, "health_check")):
            raise CommandError("Nothing to do: give --cleanup, --vacuum, --months, --health-check.")
        try:
            report = self._run(options)
        except (ImproperlyConfigured, ValueError) as error:
            raise CommandError(scrub(error)) from None
        failed = []
        for part, outcomes in report.items():
            for name, outcome in outcomes.items():
                mark = "ok" if outcome["ok"] else "FAILED"
                self.stdout.write(f"{part} {name}: {mark}, {outcome['detail']}")
                if not outcome["ok"]:
                    failed.append(f"{part} {name}")
        if failed:
            raise CommandError(f"Failed: {', '.join(failed)}.")

    def _run(self, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
        databases = options["database"]
        report: dict[str, dict[str, Any]] = {}
        if options["cleanup_analytics"] and not options["cleanup"]:
            report["cleanup"] = cleanup_old_analytics_data(options["days"], databases=databases)
        if options["cleanup_cache"] and not options["cleanup"]:
            report["cache"] = cleanup_expired_cache_entries(databases)
        return report | run_maintenance(
            cleanup=options["cleanup"],
            vacuum=options["vacuum"],
            months=options["months"],
            health_check=options["health_check"],
            databases=databases,
            days=options["days"],
        )
