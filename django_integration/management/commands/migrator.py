"""Migrate one database, one app, or all, by hand or without a question."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError

from tailrace.django_integration.databases.migrating.command import MigratingCommand
from tailrace.django_integration.databases.migrating.model import AliasPlan


class Command(MigratingCommand):
    """``manage.py migrator``."""

    help = (
        "Show the plan of all databases, ask, and migrate. --auto asks nothing. Exit 0 if what "
        "was chosen is clean, else 1."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("--auto", action="store_true", help="ask nothing, migrate")
        parser.add_argument(
            "--database", action="append", metavar="ALIAS", help="only this one; may be repeated"
        )
        parser.add_argument(
            "--app", action="append", metavar="LABEL", help="only this one; may be repeated"
        )
        self.add_lock_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        labels = options["app"] or []
        for label in labels:
            try:
                apps.get_app_config(label)
            except LookupError as error:
                raise CommandError(str(error)) from error
        self.write_migrations(
            may_write=options["auto"], interactive=False, verbosity=options["verbosity"]
        )
        if options["auto"]:
            self.prepare_months()
        plans = self.plan(options["database"], labels)
        if not options["auto"]:
            plans = self._choose(plans)
        results = self.execute_plans(plans, labels, options)
        self.finish(result.alias for result in results if result.problems)

    def _choose(self, plans: list[AliasPlan]) -> list[AliasPlan]:
        due = [plan for plan in plans if not plan.is_clean]
        if not due:
            return plans
        for number, plan in enumerate(due, start=1):
            self.say(f"  {number}) {plan.alias}")
        self.say("  a) all of them")
        try:
            answer = input("Migrate which? [nothing] ").strip().lower()
        except EOFError:
            answer = ""
        if answer == "a":
            return plans
        if answer.isdigit() and 1 <= int(answer) <= len(due):
            return [due[int(answer) - 1]]
        raise CommandError("Nothing was done.")
