"""The source and the sink of a backend, whatever it is.

A backend of your own may have the methods ``backfill_source(selection)`` and
``backfill_sink(selection, wait)``; without them, it is read by its queries, and written if
writing twice does no harm.
"""

from __future__ import annotations

from typing import Any

from tailrace.backends.base import BaseBackend
from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.memory import MemoryBackend
from tailrace.pipeline.backfill.contracts import BackfillRefused, Sink, Source, Waiting

from .contract import OverwritingSink, ReaderSource
from .memory import MemorySink, MemorySource
from .orm import OrmSink, OrmSource, Writer
from .reading_writer import ReadingWriter
from .selection import Selection


def source_of(backend: BaseBackend, selection: Selection) -> Source:
    """Return what reads a selection from a backend.

    Raises:
        BackfillRefused: this backend keeps nothing that could be read.
    """
    if own := getattr(backend, "backfill_source", None):
        source: Source = own(selection)
        return source
    if isinstance(backend, DjangoDBBackend):
        return OrmSource(backend.get_db_alias(), selection)
    if isinstance(backend, MemoryBackend):
        return MemorySource(backend, selection)
    if not backend.features.keeps_events:
        raise BackfillRefused(f"backend {backend.alias!r} keeps nothing that could be read")
    return ReaderSource(backend, selection)


def sink_of(
    backend: BaseBackend, selection: Selection | None = None, wait: Waiting | None = None
) -> Sink:
    """Return what writes events into a backend.

    Args:
        backend: Which.
        selection: Of a copy; without one, events of any measurement are written, as an import
            does it.
        wait: Waits until the backend's own drain will not bring any of the events that were
            read; see ``fence.py``.

    Raises:
        BackfillRefused: it cannot be written so that twice is the same as once.
    """
    if own := getattr(backend, "backfill_sink", None):
        sink: Sink = own(selection, wait)
        return sink
    if isinstance(backend, DjangoDBBackend):
        return OrmSink(backend.get_db_alias(), _writer(backend, selection), selection, wait)
    if isinstance(backend, MemoryBackend):
        return MemorySink(backend)
    if backend.features.transactional_checkpoint:
        raise BackfillRefused(
            f"{type(backend).__name__} (backend {backend.alias!r}) cannot be the target of a "
            "backfill: it needs a method backfill_sink(); see docs/backfills.md"
        )
    return OverwritingSink(backend, selection, wait)


def _writer(backend: DjangoDBBackend, selection: Selection | None) -> Any:
    model = selection.model if selection is not None else None

    def writer() -> Writer:
        if model is not None:
            return ReadingWriter(model, backend.get_db_alias())
        return backend.backfill_writer()

    return writer
