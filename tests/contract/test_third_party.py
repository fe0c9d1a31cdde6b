"""A backend as an outsider would write it, with public names and docs/writing-a-backend.md.

It keeps one folder a backend: a generation of the books (checkpoints, marks, ledger, letters)
and files of events, one JSON document a line. A transaction writes its events to a file of
their own, then a new generation of the books that names this file, and renames it into place:
before the rename nothing counts, after it everything does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from tailrace.backends.base import BaseBackend, Features, Transaction
from tailrace.backends.testing import WriterContract
from tailrace.backends.testing.frames import make_event
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.dead_letter import DeadLetter
from tailrace.pipeline.errors import (
    BackendMisconfigured,
    ConfigurationError,
    RejectedEvents,
    TransientBackendError,
)
from tailrace.pipeline.event import Event
from tailrace.pipeline.ledger import HighWater, Key

LINE_MAX_BYTES = 1_000_000


class Books(msgspec.Struct):
    """What one generation holds of one shard."""

    checkpoint: Checkpoint
    files: list[str] = []
    marks: dict[str, HighWater] = {}
    ledger: list[tuple[int, str, str, int]] = []
    letters: list[DeadLetter] = []


class NdjsonBackend(BaseBackend):
    """Stores events as lines of JSON below ``OPTIONS["DIRECTORY"]``."""

    features: ClassVar[Features] = Features()
    options: ClassVar[Mapping[str, type]] = {"DIRECTORY": str}

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        if not options.get("DIRECTORY"):
            raise ConfigurationError("OPTIONS['DIRECTORY'] is missing: name a folder to write to")
        self.directory = Path(options["DIRECTORY"])
        self._locks: dict[int, threading.Lock] = {}

    def setup(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendMisconfigured(f"{self.directory}: {error}; name a folder") from error

    def read_checkpoint(self, shard: int) -> Checkpoint | None:
        books = self.read(shard)
        return books.checkpoint if books else None

    def create_checkpoint(self, checkpoint: Checkpoint) -> None:
        with self.locked(checkpoint.shard):
            if self.read(checkpoint.shard) is None:
                self.replace(checkpoint.shard, Books(checkpoint))

    def transaction(self, shard: int) -> AbstractContextManager[Transaction]:
        return self._transaction(shard)

    @contextmanager
    def _transaction(self, shard: int) -> Iterator[Transaction]:
        with self.locked(shard):
            books = self.read(shard)
            if books is None:
                raise BackendMisconfigured(f"{self.path(shard)} is gone: restore it, or start anew")
            tx = NdjsonTransaction(books)
            yield tx
            if tx.lines:
                name = f"{uuid.uuid4().hex}.ndjson"
                (self.directory / name).write_bytes(b"\n".join(tx.lines))
                books.files.append(name)
            books.checkpoint = tx.checkpoint
            self.replace(shard, books)

    def ledger_totals(
        self, start: int | None = None, end: int | None = None
    ) -> Iterable[tuple[str, str, int]]:
        totals: Counter[tuple[str, str]] = Counter()
        for books in self.all_books():
            for minute, measurement, outcome, amount in books.ledger:
                if (start is None or minute >= start) and (end is None or minute < end):
                    totals[measurement, outcome] += amount
        return [(*key, amount) for key, amount in sorted(totals.items())]

    def producer_totals(self) -> dict[str, int]:
        totals: Counter[str] = Counter()
        for books in self.all_books():
            for mark in books.marks.values():
                totals.update(mark.captured())
        return dict(totals)

    # --- files

    def path(self, shard: int) -> Path:
        return self.directory / f"shard-{shard}.json"

    def read(self, shard: int) -> Books | None:
        try:
            return msgspec.json.decode(self.path(shard).read_bytes(), type=Books)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TransientBackendError(f"{self.path(shard)}: {error}") from error

    def replace(self, shard: int, books: Books) -> None:
        draft = self.path(shard).with_suffix(f".{uuid.uuid4().hex}")
        draft.write_bytes(msgspec.json.encode(books))
        os.replace(draft, self.path(shard))

    def all_books(self) -> list[Books]:
        paths = self.directory.glob("shard-*.json")
        return [msgspec.json.decode(path.read_bytes(), type=Books) for path in paths]

    @contextmanager
    def locked(self, shard: int) -> Iterator[None]:
        with (
            self._locks.setdefault(shard, threading.Lock()),
            (self.directory / f"shard-{shard}.lock").open("w") as file,
        ):
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class NdjsonTransaction(Transaction):
    def __init__(self, books: Books) -> None:
        self.books = books
        self.checkpoint = books.checkpoint
        self.lines: list[bytes] = []

    def high_waters(self, producers: Collection[bytes]) -> dict[bytes, HighWater]:
        marks = self.books.marks
        return {p: marks[p.hex()] for p in producers if p.hex() in marks}

    def write(self, events: Sequence[Event]) -> None:
        lines = [json.dumps(event.as_dict(), default=str).encode() for event in events]
        if any(len(line) > LINE_MAX_BYTES for line in lines):
            raise RejectedEvents(f"an event takes more than {LINE_MAX_BYTES} bytes")
        self.lines += lines

    def park(self, letters: Sequence[DeadLetter]) -> None:
        self.books.letters += letters

    def book(self, amounts: Mapping[Key, int]) -> None:
        self.books.ledger += [(*key, amount) for key, amount in amounts.items()]

    def advance(self, checkpoint: Checkpoint, high_waters: Sequence[HighWater]) -> None:
        self.checkpoint = checkpoint
        self.books.marks.update((mark.producer.hex(), mark) for mark in high_waters)


class TestNdjsonBackend(WriterContract):
    examples = 30

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.made = 0

    def make_backend(self) -> NdjsonBackend:
        self.made += 1
        return self.open(self.root / str(self.made))

    def another(self, backend: Any) -> NdjsonBackend:
        return self.open(backend.directory)

    def open(self, directory: Path) -> NdjsonBackend:
        backend = NdjsonBackend("default", {"DIRECTORY": str(directory)})
        backend.setup()
        return backend

    def stored_events(self, backend: Any) -> list[dict[str, Any]]:
        files = [name for books in backend.all_books() for name in books.files]
        texts = [(backend.directory / name).read_text() for name in files]
        events = [json.loads(line) for text in texts for line in text.split("\n")]
        return [{**event, "time": datetime.fromisoformat(event["time"])} for event in events]

    def count_dead_letters(self, backend: Any) -> int:
        return sum(len(books.letters) for books in backend.all_books())

    def refused_event(self) -> Event:
        return make_event(fields={"text": "x" * LINE_MAX_BYTES})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    backend = NdjsonBackend("default", {"DIRECTORY": str(tmp_path / "file" / "folder")})
    with pytest.raises(BackendMisconfigured, match="name a folder"):
        backend.setup()


def test_the_suite_notices_a_backend_that_is_not_all_or_nothing(tmp_path: Path) -> None:
    """The suite is worth something only if a faulty backend fails it."""

    class Leaky(NdjsonBackend):
        @contextmanager
        def _transaction(self, shard: int) -> Iterator[Transaction]:
            with contextlib.ExitStack() as stack:
                tx = stack.enter_context(super()._transaction(shard))
                books = self.read(shard)
                assert books is not None
                books.ledger.append((60, "leak", "stored", 1))
                self.replace(shard, books)
                yield tx

    suite = TestNdjsonBackend()
    suite.root, suite.made = tmp_path, 0
    suite.open = lambda directory: _opened(Leaky, directory)  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        suite.test_nothing_is_there_when_the_block_raises()


def test_the_suite_notices_a_backend_that_forgets_marks(tmp_path: Path) -> None:
    class Forgetful(NdjsonBackend):
        def read(self, shard: int) -> Books | None:
            books = super().read(shard)
            if books is not None:
                books.marks = {}
            return books

    suite = TestNdjsonBackend()
    suite.root, suite.made = tmp_path, 0
    suite.open = lambda directory: _opened(Forgetful, directory)  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        suite.test_copies_of_a_frame_are_dropped()
    with pytest.raises(AssertionError):
        suite.test_a_redis_from_an_older_snapshot_doubles_nothing()
    with pytest.raises(AssertionError):
        suite._play([("send", 0, 1), ("drain", 0, 1), ("duplicate", 0, 1)])


def test_the_suite_notices_a_backend_without_a_lock(tmp_path: Path) -> None:
    class Unlocked(NdjsonBackend):
        @contextmanager
        def locked(self, shard: int) -> Iterator[None]:
            yield

    suite = TestNdjsonBackend()
    suite.root, suite.made = tmp_path, 0
    suite.open = lambda directory: _opened(Unlocked, directory)  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        suite.test_transactions_on_one_shard_come_one_after_the_other()


def _opened(kind: type[NdjsonBackend], directory: Path) -> NdjsonBackend:
    backend = kind("default", {"DIRECTORY": str(directory)})
    backend.setup()
    return backend
