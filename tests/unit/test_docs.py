"""Documentation that must follow the code."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tailrace.pipeline.config import Config
from tailrace.pipeline.retention import RetentionConfig
from tailrace.pipeline.rollup import RollupConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
SOURCES = DOCS.parent / "django_integration"


@pytest.mark.parametrize(
    ("heading", "struct"),
    [("setting", Config), ("key of a rollup", RollupConfig), ("key of a policy", RetentionConfig)],
)
def test_every_setting_is_documented(heading: str, struct: type[msgspec.Struct]) -> None:
    """If this fails, add the setting's row to docs/settings.md, or take out the stale one."""
    tables = (DOCS / "settings.md").read_text().split("\n\n")
    rows = "\n".join(table for table in tables if table.startswith(f"| {heading} |"))
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", rows, re.MULTILINE))
    assert documented == {field.encode_name for field in msgspec.structs.fields(struct)}


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
