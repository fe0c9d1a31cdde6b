"""Helpers of the tests of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event
from tailrace.pipeline.interchange import EventMaker, Format, Identity, Read, read_events
from tailrace.pipeline.interchange.records import close_kept_files, digest_of, slices_of
from tailrace.pipeline.masking import Masker

ReadFile = Callable[..., list[Event]]


@pytest.fixture
def read_file(tmp_path: Path) -> ReadFile:
    """Return what reads bytes, or a file, as events, slice by slice."""

    def read(
        content: bytes | Path,
        format_: Format,
        *,
        masker: Masker | None = None,
        skip: int = 0,
        line: int = 1,
    ) -> list[Event]:
        path = content if isinstance(content, Path) else tmp_path / "events"
        if isinstance(content, bytes):
            path.write_bytes(content)
        maker = EventMaker(Config(), masker)
        how = Read(format_, maker, Identity("file", digest_of(path)), Masker())
        return [
            event
            for slice_ in slices_of(path, format_, skip, line)
            for piece in read_events(path, slice_, how)
            for event in piece
        ]

    yield read
    close_kept_files()
