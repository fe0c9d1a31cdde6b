"""The spool in a folder that another user prepared."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tailrace.pipeline.errors import SpoolUnavailable
from tailrace.pipeline.spool import Spool

ITEMS = [(1, b"a frame")]
NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to own files as another")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def make(folder: Path) -> Spool:
    return Spool(folder, 2**20, "block", lambda frames: pytest.fail("nothing may be dropped"))


def leave(folder: Path) -> Path:
    """Write a frame as a process does that is then killed; return the segment."""
    spool = make(folder)
    assert spool.append(ITEMS) == 1
    spool.after_fork_in_child()
    [segment] = folder.glob("*.frames")
    return segment


def refusal(folder: Path) -> str:
    spool = make(folder)
    with pytest.raises(SpoolUnavailable) as caught:
        spool.append(ITEMS)
    assert str(folder) in str(caught.value)
    assert "SPOOL_DIR" in str(caught.value)
    return str(caught.value)


def test_the_error_says_where_and_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refusal(tmp_path / "file" / "spool")
    assert "Not a directory" in refusal(tmp_path / "file")


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_not_followed(folder, tmp_path, exists):
    target = tmp_path / "victim"
    if exists:
        target.mkdir()
    folder.symlink_to(target)
    assert "symbolic link" in refusal(folder)
    assert not exists or list(target.iterdir()) == []
    assert target.exists() == exists


@needs_root
def test_a_folder_of_another_user_is_refused(folder):
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    assert "belongs to user 65534" in refusal(folder)
    with pytest.raises(SpoolUnavailable, match="belongs to user"):
        make(folder).adopt_orphans()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_folder_that_others_can_write_is_refused(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    assert "written by other users" in refusal(folder)
    assert list(folder.iterdir()) == []


def test_a_sticky_folder_and_one_that_others_can_read_will_do(folder):
    folder.mkdir()
    for mode in (0o1777, 0o755):
        folder.chmod(mode)
        spool = make(folder)
        spool.append(ITEMS)
        assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600, 0o600]
        assert spool.peek(1, 2**20) == ITEMS
        spool.commit(1)
        spool.close()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_regular_file_is_never_opened(folder, tmp_path, kind):
    segment = leave(folder)
    (tmp_path / "stolen").write_bytes(segment.read_bytes())
    segment.unlink()
    if kind == "link":
        segment.symlink_to(tmp_path / "stolen")
    elif kind == "pipe":
        os.mkfifo(segment)
    else:
        segment.mkdir()
    started = time.monotonic()
    assert make(folder).adopt_orphans() == 0
    assert time.monotonic() - started < 1, "opening a pipe would hang"
    assert os.path.lexists(segment)


@needs_root
def test_a_segment_that_another_user_planted_is_ignored(folder):
    segment = leave(folder)
    os.chown(segment, NOBODY, NOBODY)
    assert make(folder).adopt_orphans() == 0
