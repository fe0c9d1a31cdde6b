"""What ``migrate_all`` and ``migrator`` have in common."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Collection, Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from tailrace.django_integration.databases.migrating.authoring import (
    apps_without_migrations_for_changes,
    make_migrations,
)
from tailrace.django_integration.databases.migrating.model import AliasPlan, Role
from tailrace.django_integration.databases.migrating.runner import (
    DEFAULT_LOCK_TIMEOUT_SECONDS,
    Result,
    inspect_all,
    run_alias,
)
from tailrace.django_integration.databases.migrating.text import (
    plan_lines,
    result_lines,
    routing_lines,
)
from tailrace.django_integration.databases.months import prepare_months
from tailrace.django_integration.databases.secrets import scrub


class MigratingCommand(BaseCommand):
    """Shows the plan, runs it, and ends with 0 only if every database is as it should be."""

    # A check may need a database that is down or not migrated yet; Django's migrate does the same.
    requires_system_checks: list[str] = []

    def add_lock_argument(self, parser: ArgumentParser) -> None:
        """Add ``--lock-timeout``."""
        parser.add_argument(
            "--lock-timeout",
            type=float,
            default=DEFAULT_LOCK_TIMEOUT_SECONDS,
            metavar="SECONDS",
            help="how long to wait for another run on the same database (default: %(default)g)",
        )

    def say(self, line: str) -> None:
        """Print a line at once: the output of a run that is killed counts too.

        Errors of databases are cleaned where they are caught. Cleaning whole lines would blank out
        the app ``shop`` for everyone whose password in development is ``shop``.
        """
        self.stdout.write(line)
        self.stdout.flush()

    def plan(self, databases: Iterable[str] | None, labels: Collection[str]) -> list[AliasPlan]:
        """Inspect, and print routing and plan."""
        try:
            plans = inspect_all(databases, labels)
        except ImproperlyConfigured as error:
            raise CommandError(scrub(error)) from None
        for line in [*routing_lines(), *plan_lines(plans)]:
            self.say(line)
        return plans

    def write_migrations(self, *, may_write: bool, interactive: bool, verbosity: int) -> list[str]:
        """Write missing migrations of the project's apps, or only name the apps."""
        changed = apps_without_migrations_for_changes()
        if changed and may_write:
            make_migrations(changed, interactive=interactive, verbosity=verbosity)
            return []
        for label in changed:
            self.say(f"{label}: models have changed and no migration says so (makemigrations).")
        return changed

    def prepare_months(self) -> None:
        """Create the databases of the coming months, where a ``TimeRouter`` has rules."""
        for alias in prepare_months():
            self.say(f"{alias}: month prepared")

    def execute_plans(
        self, plans: list[AliasPlan], labels: Collection[str], options: dict[str, Any]
    ) -> list[Result]:
        """Run every alias that can be run, and name those that cannot."""
        results = []
        for plan in plans:
            if plan.role is Role.DOWN:
                results.append(Result(alias=plan.alias, problems=[f"is down: {plan.detail}"]))
            elif plan.role is Role.MIGRATED and plan.pending:
                result = run_alias(
                    plan.alias,
                    only_apps=labels,
                    repairs=options.get("repair", False),
                    say=self.say,
                    lock_timeout_seconds=options["lock_timeout"],
                )
                results.append(result)
        for line in result_lines(results):
            self.say(line)
        return results

    def confirm(self, question: str) -> bool:
        """Ask; an empty answer or the end of input is no."""
        try:
            return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
        except EOFError:
            return False

    def finish(self, problems: Iterable[str]) -> None:
        """End with 0, or with 1 and the names of what is not clean."""
        named = ", ".join(problems)
        if named:
            raise CommandError(f"Not clean: {named}.")
        self.say("All databases are clean.")
