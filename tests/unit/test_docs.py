"""Documentation that must follow the code."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from tailrace.pipeline.config import Config

DOCS = Path(__file__).resolve().parents[2] / "docs"
SOURCES = DOCS.parent / "django_integration"


def test_every_setting_is_documented() -> None:
    """If this fails, add the setting's row to docs/settings.md, or take out the stale one."""
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (DOCS / "settings.md").read_text(), re.M))
    assert documented == {field.encode_name for field in msgspec.structs.fields(Config)}


def test_every_check_is_documented() -> None:
    """If this fails, add the check's row to docs/checks.md, or take out the stale one."""
    documented = set(
        re.findall(r"^\| `tailrace\.([EW]\d+)`", (DOCS / "checks.md").read_text(), re.M)
    )
    sources = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    assert documented == set(re.findall(r"\"tailrace\.([EW]\d+)\"", sources))


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
