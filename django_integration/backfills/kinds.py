"""The kinds of backfills that there are."""

from __future__ import annotations

from tailrace.pipeline.backfill.contracts import BackfillRefused, Kind

from .copying import Compare, Copy
from .exporting import ExportNdjson, ExportParquet
from .importing import ImportCsv, ImportLineProtocol, ImportNdjson, ImportOrbit, ImportSilk
from .recomputing import Recompute
from .redaction import Redact
from .replaying import ReplayLetters

_registered: dict[str, Kind] = {}


def register_kind(kind: Kind) -> Kind:
    """Add a kind, or replace the one of its name; call it from an app's ``ready()``."""
    _registered[kind.name] = kind
    return kind


def kinds() -> dict[str, Kind]:
    """Return all kinds by name."""
    return dict(_registered)


def kind_of(name: str) -> Kind:
    """Return a kind.

    Raises:
        BackfillRefused: there is none of this name.
    """
    if name not in _registered:
        raise BackfillRefused(f"no kind {name!r}; there are: {', '.join(_registered)}")
    return _registered[name]


_KINDS: tuple[type[Kind], ...] = (
    *(Copy, Compare, Recompute, ReplayLetters),
    *(ImportNdjson, ImportCsv, ImportLineProtocol, ImportOrbit, ImportSilk),
    *(ExportNdjson, ExportParquet, Redact),
)
for _kind in _KINDS:
    register_kind(_kind())
