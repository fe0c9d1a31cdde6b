"""One process at a time does a job, and each run is recorded."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from retention.conftest import Database

from tailrace.backends import jobs as jobs_module
from tailrace.backends.jobs import KILLED, RUNS_KEPT, Jobs, LeaseLost
from tailrace.backends.private_connection import close_private_connections


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Microseconds that leases see; tests move them."""
    now = [1_700_000_000_000_000]
    monkeypatch.setattr(jobs_module, "now_us", lambda: now[0])
    return now


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs("default", database.alias)


def _seconds(clock: list[int], seconds: float) -> None:
    clock[0] += int(seconds * 1e6)


def test_one_at_a_time(jobs: Jobs, clock: list[int]) -> None:
    with jobs.lease("sweep") as first:
        assert first is not None
        with jobs.lease("sweep") as second:
            assert second is None
        with jobs.lease("refresh") as other:
            assert other is not None
        assert [state.is_running for state in jobs.all()] == [False, True]
    _seconds(clock, 1)
    with jobs.lease("sweep") as again:
        assert again is not None


def test_another_backend_has_jobs_of_its_own(database: Database) -> None:
    with (
        Jobs("a", database.alias).lease("sweep") as first,
        Jobs("b", database.alias).lease("sweep") as second,
    ):
        assert first is not None
        assert second is not None


def test_what_was_done_is_recorded(jobs: Jobs, clock: list[int]) -> None:
    with jobs.lease("sweep") as lease:
        assert lease is not None
        lease.rows += 7
        lease.say("seven went")
        lease.say("all of them")
    (state,) = jobs.all()
    (run,) = state.runs
    assert (run.rows, run.detail, run.error) == (7, "seven went; all of them", "")
    assert run.started_us == clock[0]
    assert run.seconds is not None


def test_an_error_is_recorded_and_goes_on(jobs: Jobs) -> None:
    with pytest.raises(RuntimeError), jobs.lease("sweep"):
        raise RuntimeError("the disk\nis \0 full" + "!" * 5_000)
    (run,) = jobs.all()[0].runs
    assert run.error.startswith("RuntimeError: the disk is full!")
    assert len(run.error) < 600
    assert not jobs.all()[0].is_running


def test_the_latest_runs_stay(jobs: Jobs, clock: list[int]) -> None:
    for number in range(RUNS_KEPT + 5):
        _seconds(clock, 1)
        with jobs.lease("sweep") as lease:
            assert lease is not None
            lease.rows = number
    runs = jobs.all()[0].runs
    assert [run.rows for run in runs] == list(range(RUNS_KEPT + 4, 4, -1))


def test_a_lease_of_the_dead_is_taken_over(jobs: Jobs, clock: list[int]) -> None:
    dead = jobs.lease("sweep", seconds=60)
    assert dead.__enter__() is not None
    _seconds(clock, 59)
    with jobs.lease("sweep") as lease:
        assert lease is None
    _seconds(clock, 2)
    with jobs.lease("sweep") as lease:
        assert lease is not None
    assert [run.error for run in jobs.all()[0].runs] == ["", KILLED]
    dead.__exit__(None, None, None)
    assert not jobs.all()[0].is_running


def test_who_was_too_slow_notices(jobs: Jobs, clock: list[int]) -> None:
    with jobs.lease("sweep", seconds=0.001) as slow:
        assert slow is not None
        _seconds(clock, 1)
        with jobs.lease("sweep") as quick:
            assert quick is not None
            assert not slow.is_ours()
            with pytest.raises(LeaseLost, match="sweep"):
                slow.check()
            assert quick.renew()
    newest, oldest = jobs.all()[0].runs
    assert newest.error == ""
    assert oldest.error == "the lease ran out before it was done"


def test_who_goes_on_keeps_it(jobs: Jobs, clock: list[int]) -> None:
    with jobs.lease("sweep", seconds=60) as lease:
        assert lease is not None
        for _ in range(5):
            _seconds(clock, 50)
            assert lease.renew()
        with jobs.lease("sweep") as other:
            assert other is None


def test_not_again_before_it_is_due(jobs: Jobs, clock: list[int]) -> None:
    def ran(**outcome: Any) -> bool:
        with jobs.lease("sweep", every_seconds=600) as lease:
            if lease is not None:
                for name, value in outcome.items():
                    setattr(lease, name, value)
            return lease is not None

    assert ran()
    _seconds(clock, 300)
    assert not ran()
    _seconds(clock, 299)  # beat is a little early
    assert ran(is_unfinished=True)
    _seconds(clock, 1)
    assert ran(), "what is not done is due at once"
    _seconds(clock, 1)
    assert not ran()


def test_what_failed_is_due_at_once(jobs: Jobs, clock: list[int]) -> None:
    with pytest.raises(ZeroDivisionError), jobs.lease("sweep", every_seconds=600):
        raise ZeroDivisionError
    _seconds(clock, 1)
    with jobs.lease("sweep", every_seconds=600) as lease:
        assert lease is not None


def test_of_many_at_the_same_moment_one_gets_it(jobs: Jobs) -> None:
    together, done = threading.Barrier(4), threading.Barrier(4)
    got: list[bool] = []
    errors: list[BaseException] = []

    def beat() -> None:
        try:
            together.wait(10)
            with jobs.lease("sweep") as lease:
                got.append(lease is not None)
                done.wait(10)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            errors.append(error)
            done.abort()
        finally:
            close_private_connections()

    threads = [threading.Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert sorted(got) == [False, False, False, True]


def test_runs_that_cannot_be_read_start_anew(jobs: Jobs, database: Database) -> None:
    with jobs.lease("sweep"):
        pass
    database.rows("Job").update(runs="no json")
    with jobs.lease("sweep") as lease:
        assert lease is not None
    assert len(jobs.all()[0].runs) == 1
