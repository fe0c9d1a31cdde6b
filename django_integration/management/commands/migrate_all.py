"""Migrate every database: the plan first, one run at a time, and nothing half done in silence."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from tailrace.django_integration.databases.migrating.command import MigratingCommand


class Command(MigratingCommand):
    """``manage.py migrate_all``."""

    help = (
        "Migrate all databases by the routers: shows who goes where and what is pending, locks "
        "each database, finishes the others if one is down. Exit 0 if all are clean, else 1."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument(
            "--skip-makemigrations",
            action="store_true",
            help="do not look for changed models, and write no migrations",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="change nothing; exit 1 if anything is pending, recorded but missing, present "
            "but unrecorded, half applied, or a database is down",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="change nothing; show the plan and exit 0"
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="put right what is half applied, missing or unrecorded, as the plan says",
        )
        parser.add_argument(
            "--non-interactive", "--noinput", action="store_true", help="ask nothing"
        )
        self.add_lock_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        looks_only = options["check"] or options["dry_run"]
        changed: list[str] = []
        if not options["skip_makemigrations"]:
            changed = self.write_migrations(
                may_write=not looks_only,
                interactive=not options["non_interactive"],
                verbosity=options["verbosity"],
            )
        if not looks_only:
            self.prepare_months()
        plans = self.plan(None, ())
        if options["check"]:
            unclean = [plan.alias for plan in plans if not plan.is_clean]
            self.finish([*(f"models of {label}" for label in changed), *unclean])
            return
        if options["dry_run"]:
            self.say("Dry run: nothing was changed.")
            return
        findings = [finding for plan in plans for finding in plan.findings]
        asks = options["repair"] and findings and not options["non_interactive"]
        if asks and not self.confirm("Repair this as the plan says?"):
            raise CommandError("Nothing was done.")
        results = self.execute_plans(plans, (), options)
        self.finish(result.alias for result in results if result.problems)
