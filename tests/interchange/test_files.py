"""Which files may be read, what is told of them before the start, and how slices hold."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tailrace.django_integration.backfills.files import FileSource, Opened, allowed_path
from tailrace.pipeline.backfill.contracts import BackfillRefused
from tailrace.pipeline.config import Config
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.interchange import EventMaker, Identity, Read, read_events, records
from tailrace.pipeline.interchange.ndjson import NdjsonFormat
from tailrace.pipeline.interchange.opened import close_kept_files
from tailrace.pipeline.interchange.records import digest_of, slices_of
from tailrace.pipeline.masking import Masker

GOOD = '{"measurement":"m","time":"2026-01-01T00:00:00Z","fields":{"n":%d}}\n'


def source(folder: Path, text: str, name: str = "") -> FileSource:
    config = msgspec.structs.replace(Config(), exchange_dirs=[str(folder)])
    path = allowed_path(text, config)
    maker = EventMaker(config, None)
    return FileSource(path, lambda: Opened(NdjsonFormat()), maker, Masker(), ("test",), name)


REFUSALS: list[tuple[Callable[[Path], Any], str, str]] = [
    (lambda path: None, "none", "cannot read"),
    (lambda path: None, "../../etc/passwd", "in none of the folders"),
    (lambda path: None, "/etc/passwd", "in none of the folders"),
    (lambda path: None, "x\0y", "is no path"),
    (lambda path: None, ".", "is not a file"),
    (lambda path: path.symlink_to("/etc/passwd"), "x", "in none of the folders"),
    (lambda path: path.write_text(""), "x", "has no records"),
    (lambda path: path.write_text("\n\n"), "x", "has no records"),
    (lambda path: path.write_text("hello\nworld\n"), "x", "none of the first 2 records"),
    (lambda path: path.write_bytes(gzip.compress(b"{}\n" * 900)[:-9]), "x", "whole gzip file"),
    (lambda path: path.write_bytes(b"\x1f\x8bnonsense"), "x", "whole gzip file"),
]


@pytest.mark.parametrize(("prepare", "text", "reason"), REFUSALS)
def test_what_cannot_start_says_why(
    tmp_path: Path, prepare: Callable[[Path], Any], text: str, reason: str
) -> None:
    prepare(tmp_path / "x")
    with pytest.raises(BackfillRefused, match=reason):
        source(tmp_path, text).check()


def test_without_a_folder_no_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(BackfillRefused, match="EXCHANGE_DIRS"):
        allowed_path(str(tmp_path), Config())


def test_the_estimate_tells_how_many_and_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("".join(GOOD % n for n in range(50)) + "bad\n")
    estimate = source(tmp_path, "x").estimate()
    assert (estimate.rows, estimate.is_exact) == (51, True)
    assert estimate.notes[0].startswith("Of the first records 1 cannot be read: line 51: ")


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_large_file_is_estimated_from_its_beginning(tmp_path: Path, is_packed: bool) -> None:
    numbers = random.Random(1)
    data = "".join(GOOD % numbers.getrandbits(60) for _ in range(60_000)).encode()
    (tmp_path / "x").write_bytes(gzip.compress(data, 1) if is_packed else data)
    estimate = source(tmp_path, "x").estimate()
    assert not estimate.is_exact
    assert 50_000 < estimate.rows < 72_000


@pytest.mark.parametrize("is_packed", [False, True])
def test_slices_can_be_read_in_any_order_by_anybody(tmp_path: Path, is_packed: bool) -> None:
    data = "".join(GOOD % n for n in range(25_000)).encode()
    (tmp_path / "x").write_bytes(gzip.compress(data, 1) if is_packed else data)
    slices = list(source(tmp_path, "x").slices())
    assert len(slices) == 3
    assert [slice_.rows for slice_ in slices] == [10_000, 10_000, 5_000]
    found = {}
    for slice_ in [slices[1], slices[0], slices[2], slices[2]]:
        for piece in source(tmp_path, "x").read(slice_):
            found.update({event.id: event.fields["n"] for event in piece})
    assert sorted(found.values()) == list(range(25_000))
    close_kept_files()


def test_a_file_that_was_changed_fails_its_step(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("".join(GOOD % n for n in range(100)))
    (slice_,) = source(tmp_path, "x").slices()
    path.write_text("".join(GOOD % n for n in range(1, 101)))
    with pytest.raises(BackendError, match="was changed since"):
        list(source(tmp_path, "x").read(slice_))
    path.unlink()
    with pytest.raises(BackendError, match="cannot read"):
        list(source(tmp_path, "x").read(slice_))


def test_ids_follow_from_the_content_or_from_the_name(tmp_path: Path) -> None:
    def ids(text: str, name: str = "") -> list[bytes]:
        (tmp_path / "x").write_text(text)
        (slice_,) = source(tmp_path, "x", name).slices()
        return [event.id for piece in source(tmp_path, "x", name).read(slice_) for event in piece]

    short, longer = GOOD % 1 + GOOD % 2, GOOD % 1 + GOOD % 2 + GOOD % 3
    assert ids(short) == ids(short)
    assert not set(ids(short)) & set(ids(longer))
    assert ids(longer, "till")[:2] == ids(short, "till")
    assert not set(ids(short, "till")) & set(ids(short, "bar"))
    # The same name, rotated: another content at the same place is another event.
    assert not set(ids(GOOD % 7, "till")) & set(ids(GOOD % 8, "till"))


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(b" " * 60_000_000 + b"\n" + (GOOD % 1).encode(), 1))
    tracemalloc.start()
    how = Read(NdjsonFormat(), EventMaker(Config(), None), Identity("x"), Masker())
    events = [
        event
        for slice_ in slices_of(path, how.format)
        for piece in read_events(path, slice_, how)
        for event in piece
    ]
    assert len(digest_of(path)) == 32
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    close_kept_files()
    reasons = [event.rejected for event in events]
    assert sorted(reasons, key=str) == [None, "line 1: longer than 4194304 bytes"]
    assert peak < 6 * records.RECORD_MAX_BYTES


def test_a_packed_file_is_unpacked_once_for_slices_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "".join(GOOD % n for n in range(45_000)).encode()
    (tmp_path / "x").write_bytes(gzip.compress(data, 1))
    slices = list(source(tmp_path, "x").slices())
    close_kept_files()
    opened = []
    real = gzip.GzipFile

    def counting(*arguments: Any, **options: Any) -> gzip.GzipFile:
        opened.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(gzip, "GzipFile", counting)
    for slice_ in slices:
        for _ in source(tmp_path, "x").read(slice_):
            pass
    assert len(slices) == 5
    assert len(opened) == 1
    monkeypatch.undo()
    close_kept_files()
