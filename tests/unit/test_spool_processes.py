"""The spool among real processes: killed, forked and racing."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.pipeline.spool import Spool

ALL = (1_000_000, 2**40)
WAIT_SECONDS = 5.0
KILL_ROUNDS = 8
ORPHANS = 24


def frame(number: int, size: int = 50) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def items(*numbers: int, size: int = 50) -> list[tuple[int, bytes]]:
    return [(number % 4, frame(number, size)) for number in numbers]


class Child:
    """A forked process that runs one function, which gets the writing end of a pipe."""

    def __init__(self, work: Callable[[int], Any]) -> None:
        self.pipe, writes = os.pipe()
        with warnings.catch_warnings():  # Python 3.12 warns where other tests left threads
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                work(writes)
                code = 0
            except BaseException:  # noqa: BLE001 - a child must never return into pytest
                traceback.print_exc(file=sys.__stderr__)
            finally:
                os._exit(code)
        os.close(writes)

    def read(self, count: int) -> bytes:
        return os.read(self.pipe, count)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self) -> int:
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[int], Any]], Child]]:
    children = []

    def fork(work: Callable[[int], Any]) -> Child:
        children.append(Child(work))
        return children[-1]

    yield fork
    for child in children:
        child.kill()
        os.close(child.pipe)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def make(folder: Path, max_bytes: int = 2**28) -> Spool:
    return Spool(folder, max_bytes, "block", lambda frames: pytest.fail("nothing may be dropped"))


def append_and_stay(folder: Path, *numbers: int) -> Callable[[int], None]:
    def work(pipe: int) -> None:
        spool = make(folder)
        spool.append(items(*numbers))
        os.write(pipe, b"!")
        time.sleep(60)

    return work


def drain(spool: Spool) -> list[tuple[int, bytes]]:
    found = spool.peek(*ALL)
    spool.commit(len(found))
    assert spool.is_empty
    return found


def test_the_frames_of_a_killed_process_are_adopted(fork, folder):
    child = fork(append_and_stay(folder, 0, 1, 2))
    assert child.read(1) == b"!"
    spool = make(folder)
    assert spool.adopt_orphans() == 0, "it still lives"
    child.kill()
    assert spool.adopt_orphans() == 1
    assert drain(spool) == items(0, 1, 2)
    spool.close()
    assert list(folder.iterdir()) == []


def test_a_torn_tail_costs_only_the_torn_frame(fork, folder):
    child = fork(append_and_stay(folder, 0, 1, 2))
    child.read(1)
    child.kill()
    [segment] = folder.glob("*.frames")
    os.truncate(segment, segment.stat().st_size - 5)
    spool = make(folder)
    assert spool.adopt_orphans() == 1
    assert drain(spool) == items(0, 1)
    assert len(list(folder.glob("*.corrupt"))) == 1


def test_a_process_killed_while_it_sends_leaves_the_rest_and_some_copies(fork, folder):
    def send_some(pipe: int) -> None:
        spool = make(folder, max_bytes=8 * 128)  # two records a segment
        spool.append(items(*range(6)))
        spool.peek(3, 2**20)
        spool.commit(3)
        os.write(pipe, b"!")
        time.sleep(60)

    child = fork(send_some)
    child.read(1)
    child.kill()
    spool = make(folder)
    assert spool.adopt_orphans() == 2, "the first segment was sent and is deleted"
    assert drain(spool) == items(2, 3, 4, 5)


def test_kill_in_the_middle_of_writing_loses_nothing_that_was_accepted(fork, folder):
    """Frames of 1 MiB, so that kills hit the write itself."""
    seed = random.randrange(2**32)
    print(f"seed: {seed}")
    size = 2**20

    def append_on(pipe: int) -> None:
        spool = make(folder)
        for number in range(200):
            assert spool.append(items(number, size=size)) == 1
            os.write(pipe, b"!")

    delays = random.Random(seed)
    for _ in range(KILL_ROUNDS):
        child = fork(append_on)
        child.read(1)
        time.sleep(delays.uniform(0, 0.02))
        child.kill()
        accepted = 1
        while acknowledged := child.read(1000):
            accepted += len(acknowledged)
        spool = make(folder)
        assert spool.adopt_orphans() >= 1
        found = drain(spool)
        assert found == items(*range(len(found)), size=size)
        assert accepted <= len(found) <= accepted + 1
        spool.close()
        assert not list(folder.glob("*.lock"))


def test_each_orphan_goes_to_one_of_two_racing_adopters(fork, folder):
    owners = [make(folder) for _ in range(ORPHANS)]
    for number, owner in enumerate(owners):
        owner.append(items(number))
    for owner in owners:
        owner.close()
    starts, go = os.pipe()

    def adopt(pipe: int) -> None:
        os.close(go)
        spool = make(folder)
        os.read(starts, 1)  # returns for all at once, when the parent closes its end
        while spool.adopt_orphans():
            pass
        os.write(pipe, b"".join(frame[:4] for _, frame in drain(spool)) or b"none")
        spool.close()

    children = [fork(adopt) for _ in range(2)]
    os.close(go)
    os.close(starts)
    found = [child.read(4 * ORPHANS) for child in children]
    assert [child.wait() for child in children] == [0, 0]
    numbers = sorted(b"".join(part for part in found if part != b"none"))
    assert numbers == sorted(b"".join(number.to_bytes(4, "big") for number in range(ORPHANS)))
    assert list(folder.iterdir()) == []


def test_a_lock_that_was_deleted_meanwhile_is_no_lock(folder, monkeypatch):
    """The slow one opens the lock file; then its owner goes, and a quick one adopts."""
    owner, quick, slow = make(folder), make(folder), make(folder)
    owner.append(items(0))
    real_flock = fcntl.flock

    def flock_late(fd: int, operation: int) -> None:
        monkeypatch.undo()
        owner.close()
        assert quick.adopt_orphans() == 1
        real_flock(fd, operation)

    monkeypatch.setattr("tailrace.pipeline.spool_files.fcntl.flock", flock_late)
    assert slow.adopt_orphans() == 0
    assert drain(quick) == items(0)


def test_a_forked_child_starts_empty_and_leaves_the_parents_files_alone(fork, folder):
    spool = make(folder)
    spool.append(items(0, 1))
    spool.peek(*ALL)

    def use_it(pipe: int) -> None:
        spool.after_fork_in_child()
        assert spool.is_empty
        assert spool.adopt_orphans() == 0, "the parent lives"
        spool.append(items(7))
        assert drain(spool) == items(7)
        spool.append(items(8))
        spool.close()

    assert fork(use_it).wait() == 0
    other = make(folder)
    assert other.adopt_orphans() == 1, "what the child left, and nothing of ours"
    assert drain(other) == items(8)
    spool.commit(1)
    spool.append(items(2))
    assert drain(spool) == items(1, 2)


def test_a_child_does_not_hold_the_lock_of_a_parent_that_died(fork, folder):
    def be_a_parent(pipe: int) -> None:
        spool = make(folder)
        spool.append(items(0, 1))
        if os.fork() == 0:
            spool.after_fork_in_child()
            os.write(pipe, os.getpid().to_bytes(4, "big"))
            time.sleep(60)
            os._exit(0)
        time.sleep(60)

    parent = fork(be_a_parent)
    grandchild = int.from_bytes(parent.read(4), "big")
    try:
        parent.kill()
        spool = make(folder)
        assert spool.adopt_orphans() == 1
        assert drain(spool) == items(0, 1)
        os.kill(grandchild, 0)  # it lives
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_processes_that_come_and_go_take_no_more_than_one_at_a_time(fork, folder):
    limit_bytes = 8 * 128

    def fill_and_die(pipe: int) -> None:
        spool = Spool(folder, limit_bytes, "drop_oldest", lambda frames: None)
        spool.append(items(*range(12)))
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(4):
        assert fork(fill_and_die).wait() == -signal.SIGKILL
        assert sum(path.stat().st_size for path in folder.glob("*.frames")) <= limit_bytes
