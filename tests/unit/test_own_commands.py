"""Tailrace's commands do not observe themselves."""

from __future__ import annotations

import pytest
from django.core.management import get_commands, load_command_class

from tailrace.django_integration.management.base import TailraceCommand
from tailrace.pipeline.context import SUPPRESSED, current_trace

OURS = sorted(
    name
    for name, app in get_commands().items()
    if app == "tailrace.django_integration" and name.startswith("tailrace_")
)


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_is_unrecorded(name: str) -> None:
    command = load_command_class("tailrace.django_integration", name)
    assert isinstance(command, TailraceCommand), (
        "derive it from tailrace.django_integration.management.base.TailraceCommand: a command "
        "that records its own queries keeps the ledger from coming to rest"
    )


def test_recording_is_off_from_the_system_checks_on() -> None:
    seen = []

    class Command(TailraceCommand):
        requires_system_checks = ["models"]

        def check(self, *args: object, **options: object) -> None:
            seen.append(("checks", current_trace() is SUPPRESSED))

        def handle(self, *args: object, **options: object) -> None:
            seen.append(("handle", current_trace() is SUPPRESSED))

    Command().execute(skip_checks=False, force_color=False, no_color=True, stdout=None, stderr=None)
    assert seen == [("checks", True), ("handle", True)]
    assert current_trace() is not SUPPRESSED
