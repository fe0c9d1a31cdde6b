"""Helpers of the tests of files."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from interchange.file_site import FileSite
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Event
from tailrace.pipeline.interchange import EventMaker, Format, Identity, Read, read_events
from tailrace.pipeline.interchange.opened import close_kept_files
from tailrace.pipeline.interchange.records import digest_of, slices_of
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


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = FileSite(tmp_path_factory.mktemp("template"))
    site.migrate()
    site.stop_all()
    path = site.directory / "shop.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> Iterator[FileSite]:
    """A site on each database."""
    if request.param == "postgres":
        made = FileSite(tmp_path, request.getfixturevalue("postgres_database")("interchange"))
        made.migrate()
    else:
        shutil.copy(migrated, tmp_path / "shop.sqlite3")
        made = FileSite(tmp_path)
    yield made
    made.stop_all()


@pytest.fixture
def sqlite_site(tmp_path: Path, migrated: Path) -> Iterator[FileSite]:
    """A site on SQLite."""
    shutil.copy(migrated, tmp_path / "shop.sqlite3")
    made = FileSite(tmp_path)
    yield made
    made.stop_all()
