"""The spool on disks that are full or broken."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailrace.pipeline.errors import SpoolUnavailable
from tailrace.pipeline.spool import Spool

FRAME_BYTES = 86
RECORD_BYTES = 100
ALL = (1_000_000, 2**40)


def frame(number: int) -> bytes:
    return f"frame {number:06d} ".encode().ljust(FRAME_BYTES, b"x")


def items(*numbers: int) -> list[tuple[int, bytes]]:
    return [(number % 4, frame(number)) for number in numbers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def make(folder: Path, max_bytes: int = 2**20) -> Spool:
    return Spool(folder, max_bytes, "block", lambda frames: pytest.fail("nothing may be dropped"))


def leave(folder: Path, *numbers: int, max_bytes: int = 2**20) -> list[Path]:
    """Write frames and go; return the segments."""
    spool = make(folder, max_bytes)
    assert spool.append(items(*numbers)) == len(numbers)
    spool.after_fork_in_child()  # what kill -9 leaves, but in this process
    return sorted(folder.glob("*.frames"))


def drain(spool: Spool) -> list[tuple[int, bytes]]:
    found = []
    while batch := spool.peek(2, 2**30):
        found += batch
        spool.commit(len(batch))
    assert spool.is_empty
    return found


# --- full


@contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    """Take a resource away for a moment."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


HALF_A_RECORD_SHORT = 5 * RECORD_BYTES // 2


def test_a_record_that_fits_half_is_taken_back(folder):
    """A limit on the size of files fails as a full disk does, in the middle of a record."""
    spool = make(folder)
    with limited(resource.RLIMIT_FSIZE, HALF_A_RECORD_SHORT):
        assert spool.append(items(0, 1, 2)) == 2, "what is on disk is accepted"
        [segment] = folder.glob("*.frames")
        assert segment.stat().st_size == 2 * RECORD_BYTES
        with pytest.raises(SpoolUnavailable, match=r"Cannot write the spool .*: File too large"):
            spool.append(items(2))
    assert [path.stat().st_size for path in folder.glob("*.frames")] == [2 * RECORD_BYTES]
    assert spool.append(items(2)) == 1
    assert drain(spool) == items(0, 1, 2)


def test_the_first_record_of_a_segment_leaves_no_empty_file(folder):
    spool = make(folder)
    with limited(resource.RLIMIT_FSIZE, RECORD_BYTES // 2), pytest.raises(SpoolUnavailable):
        spool.append(items(0))
    assert list(folder.glob("*.frames")) == []
    assert spool.is_empty
    assert spool.append(items(0)) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs, which this container lacks")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_until_there_is_room_again(small_disk):
    spool = make(small_disk / "spool")
    numbers = range(1_000)
    accepted = spool.append(items(*numbers))
    assert 500 < accepted < 700
    with pytest.raises(SpoolUnavailable, match=r"No space left on device.*SPOOL_DIR"):
        spool.append(items(accepted))
    sent = spool.peek(*ALL)
    assert sent == items(*numbers[:accepted])
    spool.commit(len(sent))
    assert spool.append(items(accepted)) == 1
    assert drain(spool) == items(accepted)
    spool.close()


# --- broken


def test_a_corrupt_record_costs_only_itself(folder):
    leave(folder, *range(5))
    [segment] = folder.glob("*.frames")
    data = bytearray(segment.read_bytes())
    data[2 * RECORD_BYTES + 50] ^= 1
    segment.write_bytes(data)
    spool = make(folder)
    assert spool.adopt_orphans() == 1
    assert drain(spool) == items(0, 1, 3, 4)
    assert (folder / f"{segment.name}.corrupt").read_bytes() == data, "kept for a look"


@pytest.mark.parametrize("record", [0, 2, 4])
@pytest.mark.parametrize("length", [1, RECORD_BYTES, 70])
def test_overwritten_bytes_cost_only_the_records_they_hit(folder, record, length):
    """Zeros over marks, lengths and checksums, as a power cut leaves them."""
    [segment] = leave(folder, *range(5))
    with segment.open("r+b") as file:
        file.seek(record * RECORD_BYTES)
        # Of the marks, which are random, one in 256 begins with a zero.
        is_changed = any(file.read(length))
        file.seek(record * RECORD_BYTES)
        file.write(bytes(length))
    spool = make(folder)
    spool.adopt_orphans()
    assert drain(spool) == items(*(set(range(5)) - ({record} if is_changed else set())))


def test_every_single_flipped_bit_is_noticed(folder):
    [segment] = leave(folder, 0, 1, 2)
    lock = next(folder.glob("*.lock")).name
    intact = segment.read_bytes()
    for position in range(RECORD_BYTES, 2 * RECORD_BYTES):
        data = bytearray(intact)
        data[position] ^= 1 << position % 8
        segment.write_bytes(data)
        spool = make(folder)
        spool.adopt_orphans()
        assert drain(spool) == items(0, 2), position
        assert not (folder / lock).exists()


def test_corrupt_segments_are_kept_aside_but_only_a_few(folder, caplog):
    segments = leave(folder, *range(7), max_bytes=8 * RECORD_BYTES)
    assert len(segments) == 7
    for segment in segments[:6]:
        segment.write_bytes(segment.read_bytes()[:-1])
    spool = make(folder)
    with caplog.at_level(logging.WARNING, "tailrace"):
        assert spool.adopt_orphans() == 1, "in the others is nothing to send"
        assert drain(spool) == items(6)
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == [f"{path.name}.corrupt" for path in segments[:4]]
    assert len(caplog.records) == 1, "one warning, not one a segment"
    assert "corrupt" in caplog.text


def test_a_zero_length_segment_is_simply_deleted(folder, caplog):
    [segment] = leave(folder, 0)
    os.truncate(segment, 0)
    spool = make(folder)
    assert spool.adopt_orphans() == 0
    assert spool.is_empty
    assert list(folder.iterdir()) == []
    assert caplog.records == []


def test_an_event_cannot_pass_for_a_record(folder):
    """A frame that holds another segment's bytes, in a record whose start is broken."""
    [elsewhere] = leave(folder.with_name("elsewhere"), 7)
    spool = make(folder)
    spool.append([(0, elsewhere.read_bytes())])
    spool.append(items(1))
    spool.after_fork_in_child()
    [segment] = folder.glob("*.frames")
    segment.write_bytes(b"????" + segment.read_bytes()[4:])
    heir = make(folder)
    heir.adopt_orphans()
    assert drain(heir) == items(1)


def test_a_folder_deleted_while_in_use_is_made_anew(folder, caplog):
    spool = make(folder)
    spool.append(items(0))
    shutil.rmtree(folder)
    with caplog.at_level(logging.WARNING, "tailrace"):
        assert spool.append(items(1)) == 1
    assert "was deleted while in use" in caplog.text
    assert drain(spool) == items(1)


def test_files_deleted_while_in_use_cost_no_protection(folder, caplog):
    """Without its lock file a process would look dead to the others."""
    spool = make(folder)
    spool.append(items(0))
    for path in folder.iterdir():
        path.unlink()
    with caplog.at_level(logging.WARNING, "tailrace"):
        assert spool.append(items(1)) == 1
    assert "was deleted while in use" in caplog.text
    assert make(folder).adopt_orphans() == 0
    assert drain(spool) == items(1)


def test_a_deleted_segment_does_not_hold_up_the_others(folder, caplog):
    spool = make(folder, max_bytes=8 * RECORD_BYTES)
    spool.append(items(0, 1, 2))
    sorted(folder.glob("*.frames"))[1].unlink()
    with caplog.at_level(logging.WARNING, "tailrace"):
        assert spool.peek(*ALL) == items(0, 2)
    assert "gone or unreadable" in caplog.text
    assert drain(spool) == items(0, 2)


def test_too_many_open_files_is_an_error_that_passes(folder):
    spool = make(folder)
    spool.append(items(0))
    with limited(resource.RLIMIT_NOFILE, 0):
        with pytest.raises(SpoolUnavailable, match=r"Cannot read the spool .*: Too many open"):
            spool.peek(*ALL)
        with pytest.raises(SpoolUnavailable, match="Cannot write"):
            spool.append(items(1))
    assert drain(spool) == items(0)
