"""Which backend a backfill is for: 'default' where there is one of that name, else it is asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tailrace.django_integration.backfills import backend_choice
from tailrace.django_integration.backfills.kinds import kinds
from tailrace.pipeline.backfill.parameters import Parameter


def choices(monkeypatch: pytest.MonkeyPatch, *aliases: str) -> dict[str, Parameter]:
    monkeypatch.setattr(backend_choice, "runtime", lambda: SimpleNamespace(aliases=list(aliases)))
    return {
        name: parameter
        for name, kind in kinds().items()
        for parameter in kind.parameters()
        if parameter.name == "backend"
    }


def test_the_one_called_default(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choices(monkeypatch, "default", "archive")
    assert {"recompute", "replay", "redact", "import-ndjson", "export-ndjson"} <= found.keys()
    assert {(each.default, each.is_required) for each in found.values()} == {("default", False)}


def test_none_is_called_default(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choices(monkeypatch, "archive")
    assert {(each.default, each.is_required) for each in found.values()} == {(None, True)}
