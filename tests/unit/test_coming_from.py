"""docs/coming-from.md promises names and tests: each of them must be there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "coming-from.md").read_text()
NAMES = sorted(set(re.findall(r"`(tailrace(?:\.[A-Za-z_]+){2,})`", TEXT)))
TESTS = sorted(set(re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", TEXT)))
COMMANDS = sorted(set(re.findall(r"manage\.py (\w+)", TEXT)))


def test_the_page_was_read() -> None:
    assert len(NAMES) > 30
    assert len(TESTS) > 30
    assert len(COMMANDS) > 3


@pytest.mark.parametrize("name", NAMES)
def test_a_name_exists(name: str) -> None:
    """If this fails, a name has moved: correct the page, and think of those who import it."""
    module, attributes = name, []
    while True:
        try:
            found = import_module(module)
            break
        except ModuleNotFoundError:
            module, _, attribute = module.rpartition(".")
            assert module, name
            attributes.insert(0, attribute)
    for attribute in attributes:
        found = getattr(found, attribute)


@pytest.mark.parametrize(("path", "test"), TESTS)
def test_a_test_exists(path: str, test: str) -> None:
    """If this fails, a test was renamed: correct the page."""
    assert re.search(rf"^ *(?:async )?def {test}\(", (ROOT / path).read_text(), re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists(command: str) -> None:
    assert command in get_commands()
