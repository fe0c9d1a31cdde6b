"""``makemigrations`` for the project's own apps."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import django
from django.apps import apps
from django.core.management import call_command
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.questioner import NonInteractiveMigrationQuestioner
from django.db.migrations.state import ProjectState

_OWN_LABEL = "tailrace"


def project_apps() -> list[str]:
    """List the apps whose code is the project's and not an installed package's.

    ``makemigrations`` would otherwise write into site-packages when a package lags behind Django.
    """
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")]
    installed.append(Path(django.__file__).resolve().parent)
    return [
        config.label
        for config in apps.get_app_configs()
        if config.label != _OWN_LABEL
        and not any(Path(config.path).resolve().is_relative_to(folder) for folder in installed)
    ]


def apps_without_migrations_for_changes() -> list[str]:
    """List the project's apps whose models have changes that no migration has."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    changes = MigrationAutodetector(
        loader.project_state(),
        ProjectState.from_apps(apps),
        NonInteractiveMigrationQuestioner(specified_apps=set()),
    ).changes(graph=loader.graph, trim_to_apps=set(project_apps()) or None)
    return sorted(set(changes) & set(project_apps()))


def make_migrations(labels: list[str], *, interactive: bool, verbosity: int) -> None:
    """Write the migrations that are missing.

    Args:
        labels: apps to write for.
        interactive: ask where Django needs to (a rename, a default).
        verbosity: Django's.
    """
    call_command("makemigrations", *labels, interactive=interactive, verbosity=verbosity)
