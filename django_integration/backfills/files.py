"""A file as a source of the engine, and which files may be one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tailrace.pipeline.backfill.contracts import BackfillRefused, Estimate, Slice
from tailrace.pipeline.config import Config
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import Event
from tailrace.pipeline.interchange import BadRecord, EventMaker, Format, Identity, Read
from tailrace.pipeline.interchange import Slice as FileSlice
from tailrace.pipeline.interchange.read import read_events
from tailrace.pipeline.interchange.records import (
    digest_of,
    index_file,
    read_slice,
    slices_of,
)
from tailrace.pipeline.masking import Masker

_LOOKED_AT_RECORDS = 100
_SHOWN_PROBLEMS = 3
_BYTES_STORED_PER_EVENT = 400


class Opened(NamedTuple):
    """A file whose format is known."""

    format: Format
    skip: int = 0
    """Offset at which the first record begins: behind a header."""
    line: int = 1
    """The number of its line."""


class FileSource:
    """The records of a file."""

    def __init__(
        self,
        path: Path,
        opened: Callable[[], Opened],
        maker: EventMaker,
        masker: Masker,
        identity: tuple[str, ...],
        name: str = "",
    ) -> None:
        """Take what is to be read; open nothing yet.

        Args:
            path: The file.
            opened: Finds out its format; raises ``BackendError`` if it has none.
            maker: Checks the events.
            masker: For what is shown of bad records.
            identity: What the importer adds to each event, and its kind.
            name: Of the source, where it grows; empty: the content says what it is.
        """
        self._path = path
        self._opened = opened
        self._maker = maker
        self._masker = masker
        self._identity = identity
        self._name = name

    def check(self) -> None:
        """Look whether the file can be read, and whether there are events in it.

        Raises:
            BackfillRefused: neither.
        """
        try:
            good, bad = self._look()
        except BackendError as error:
            raise BackfillRefused(str(error)) from error
        if not good and not bad:
            raise BackfillRefused(f"{self._path} has no records, so nothing was started")
        if not good:
            shown = "; ".join(bad[:_SHOWN_PROBLEMS])
            raise BackfillRefused(
                f"none of the first {len(bad)} records of {self._path} is an event: {shown}"
            )

    def estimate(self) -> Estimate:
        """Return how much is in it, from its first megabyte."""
        opened = self._opened()
        index = index_file(self._path, opened.format)
        _, bad = self._look()
        # A header is counted as a record, too.
        rows = max(0, index.records - (1 if opened.skip else 0))
        notes = []
        if bad:
            shown = "; ".join(bad[:_SHOWN_PROBLEMS])
            notes.append(f"Of the first records {len(bad)} cannot be read: {shown}.")
        return Estimate(
            rows=rows,
            bytes=rows * _BYTES_STORED_PER_EVENT,
            is_exact=index.is_exact,
            notes=tuple(notes),
        )

    def slices(self) -> Iterator[Slice]:
        """Yield parts of the file, by bytes."""
        opened = self._opened()
        source = f"name:{self._name}" if self._name else f"content:{digest_of(self._path)}"
        for part in slices_of(self._path, opened.format, opened.skip, opened.line):
            yield Slice(
                label=f"{self._path.name}, from line {part.line}",
                rows=part.records,
                spec={
                    "first_byte": part.start,
                    "after_byte": part.end,
                    "line": part.line,
                    "records": part.records,
                    "digest": part.digest,
                    "source": source,
                },
            )

    def read(self, slice_: Slice) -> Iterator[list[Event]]:
        """Yield the events of a part."""
        spec = slice_.spec
        part = FileSlice(
            start=spec["first_byte"],
            end=spec["after_byte"],
            line=spec["line"],
            records=spec["records"],
            digest=spec["digest"],
        )
        identity = Identity(*self._identity, spec["source"])
        how = Read(self._opened().format, self._maker, identity, self._masker)
        return read_events(self._path, part, how)

    def _look(self) -> tuple[int, list[str]]:
        """Return how many of the first records are events, and what is wrong with the others."""
        opened = self._opened()
        first = next(slices_of(self._path, opened.format, opened.skip, opened.line), None)
        if first is None:
            return 0, []
        drafts, bad = [], []
        for record in islice(read_slice(self._path, opened.format, first), _LOOKED_AT_RECORDS):
            try:
                draft = opened.format.parse(record.data or b"")
            except BadRecord as error:
                bad.append(f"line {record.line}: {error}")
            else:
                drafts += [draft] if draft is not None else []
        events = self._maker.make(drafts)
        bad += [event.rejected for event in events if event.rejected]
        return sum(event.rejected is None for event in events), bad


def allowed_path(text: str, config: Config) -> Path:
    """Return the path of a file or folder that backfills may use.

    Whoever may start a backfill may not thereby read every file of the host.

    Args:
        text: As it was given; relative to the first allowed folder.
        config: Says which folders are allowed.

    Raises:
        BackfillRefused: it is in none of them.
    """
    folders = [Path(folder).resolve() for folder in config.exchange_dirs]
    if not folders:
        raise BackfillRefused(
            "no folder is named that files may be imported from and exported to: set "
            "TAILRACE['EXCHANGE_DIRS'], for example to ['/srv/tailrace']"
        )
    try:
        path = (folders[0] / text).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise BackfillRefused(f"{text!r:.200} is no path: {error}") from error
    if not any(path.is_relative_to(folder) for folder in folders):
        raise BackfillRefused(
            f"{text!r:.200} is in none of the folders of TAILRACE['EXCHANGE_DIRS']: "
            f"{', '.join(map(str, folders))}"
        )
    return path
