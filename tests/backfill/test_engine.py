"""The engine on a real store: every end that a step can come to, and who may do what."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tailrace.django_integration.backfills.store import LOG_CHARS, OrmStore
from tailrace.pipeline.backfill.contracts import (
    Estimate,
    Kind,
    Marker,
    Slice,
    StepContext,
    StepResult,
    Values,
)
from tailrace.pipeline.backfill.engine import ATTEMPTS_MAX, Engine
from tailrace.pipeline.backfill.parameters import Parameter
from tailrace.pipeline.backfill.records import CANCELLED, FAILED, PAUSED, RUNNING
from tailrace.pipeline.backfill.throttle import Throttle
from tailrace.pipeline.errors import BackendError, TransientBackendError

UID = "0" * 31 + "1"
STEPS = 6


class Numbers(Kind):
    """Does nothing, as often as it is told to, and remembers it."""

    name = title = description = "numbers"

    def __init__(self, store: OrmStore) -> None:
        self.store = store
        self.done: Counter[int] = Counter()
        self.errors: dict[int, list[Exception]] = {}
        self.results: dict[int, StepResult] = {}
        self.before_step: dict[int, object] = {}
        self.plan_error: Exception | None = None

    def parameters(self) -> Sequence[Parameter]:
        return (Parameter(name="count", type="integer", default=STEPS),)

    def check(self, values: Values) -> None: ...

    def estimate(self, values: Values) -> Estimate:
        return Estimate(rows=values["count"] * 10, is_exact=True)

    def plan(self, values: Values) -> Iterator[Slice]:
        for number in range(values["count"]):
            if self.plan_error is not None and number == 2:
                raise self.plan_error
            yield Slice(label=f"number {number}", rows=10, spec={"n": number})

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        number = slice_.spec["n"]
        if call := self.before_step.get(number):
            call()  # type: ignore[operator]
        if self.errors.get(number):
            raise self.errors[number].pop(0)
        self.done[number] += 1
        return self.results.get(number, StepResult(rows_read=10, rows_written=10))

    def finish(self, values: Values, total: StepResult) -> Sequence[str]:
        return (f"{total.rows_written} in all",)


@pytest.fixture
def kind(store: OrmStore) -> Numbers:
    return Numbers(store)


def create(store: OrmStore, workers: int = 8) -> None:
    store.create(UID, kind="numbers", parameters="{}", workers=workers)


def engine(kind: Numbers, worker: str = "one", lease_seconds: float = 30.0) -> Engine:
    throttle = Throttle(lambda: 0.0)
    return Engine(kind.store, {"numbers": kind}, throttle, worker, lease_seconds)


def test_all_steps_are_done_once_and_added_up(store: OrmStore, kind: Numbers) -> None:
    create(store)
    assert engine(kind).work(UID, 60) == "ended"
    assert kind.done == Counter(range(STEPS))
    row = store.row(UID)
    assert (row.state, row.finished_at is not None) == ("done", True)
    assert '"rows_written":60' in row.result
    assert "60 in all" in row.log
    assert store.tally(UID).fraction == 1.0


def test_a_failed_step_does_not_stop_the_others_and_can_be_retried(
    store: OrmStore, kind: Numbers
) -> None:
    create(store)
    kind.errors = {2: [BackendError("no room")], 4: [KeyError("a bug")]}
    assert engine(kind).work(UID, 60) == "ended"
    assert store.state(UID) == FAILED
    reasons = {number: reason for number, _, reason in store.failures(UID)}
    assert reasons == {2: "no room", 4: "KeyError: 'a bug'"}
    assert store.retry_failed(UID) == 2
    assert engine(kind).work(UID, 60) == "ended"
    assert store.state(UID) == "done"
    assert kind.done == Counter(range(STEPS)), "what was done is not done again"
    assert store.retry_failed(UID) == 0


def test_ends_that_differ_fail_the_step(store: OrmStore, kind: Numbers) -> None:
    create(store)
    kind.results = {1: StepResult(source_digest="2:00", target_digest="1:00", notes=("one lost",))}
    engine(kind).work(UID, 60)
    assert store.failures(UID) == [(1, "number 1", "the ends differ: 2:00 and 1:00; one lost")]


def test_a_storage_that_is_down_puts_a_step_off_and_costs_no_attempt(
    store: OrmStore, kind: Numbers
) -> None:
    create(store)
    kind.errors = {0: [TransientBackendError("down") for _ in range(ATTEMPTS_MAX + 2)]}
    while kind.errors[0]:
        assert engine(kind).work(UID, 60) == "waiting"
        step = store._steps(UID).get(number=0)
        assert (step.state, step.attempts, step.error) == ("ready", 0, "down")
        store._steps(UID).update(lease_ms=0)  # the wait is over
    assert engine(kind).work(UID, 60) == "ended"
    assert store.state(UID) == "done"


def test_a_plan_that_was_not_finished_is_made_again(store: OrmStore, kind: Numbers) -> None:
    create(store)
    kind.plan_error = TransientBackendError("down")
    assert engine(kind).work(UID, 60) == "waiting"
    assert not kind.done
    store.add_steps(UID, "dead", 0, [Slice(label="of a killed planner")], 0.0)
    kind.plan_error = None
    assert engine(kind).work(UID, 60) == "ended"
    assert kind.done == Counter(range(STEPS))


def test_a_plan_that_cannot_be_made_fails_with_the_reason(store: OrmStore, kind: Numbers) -> None:
    create(store)
    kind.plan_error = BackendError("no such table")
    assert engine(kind).work(UID, 60) == "ended"
    assert store.state(UID) == FAILED
    assert "could not be planned: no such table" in store.row(UID).log
    kind.plan_error = None
    assert store.retry_failed(UID) == 1
    engine(kind).work(UID, 60)
    assert store.state(UID) == "done"


def test_the_step_of_a_dead_worker_is_taken_after_its_lease(store: OrmStore, kind: Numbers) -> None:
    create(store)
    engine(kind).work(UID, 0)  # plans
    record = store.get(UID)
    assert record is not None
    lost = store.claim(record, "dead", 30)
    assert lost is not None
    assert engine(kind).work(UID, 60) == "waiting"
    assert kind.done[lost.marker.number] == 0
    store._steps(UID).filter(number=lost.marker.number).update(lease_ms=0)
    assert engine(kind).work(UID, 60) == "ended"
    assert kind.done == Counter(range(STEPS))
    assert not store.done(lost.marker, "dead", StepResult()), "it comes back from the dead"
    assert not store.failed(lost.marker, "dead", "late")


def test_a_step_that_kills_its_workers_is_given_up(store: OrmStore, kind: Numbers) -> None:
    create(store)
    engine(kind).work(UID, 0)
    store._steps(UID).filter(number=3).update(attempts=ATTEMPTS_MAX)
    engine(kind).work(UID, 60)
    (failure,) = store.failures(UID)
    assert (failure[0], "have died" in failure[2]) == (3, True)
    assert kind.done[3] == 0


def test_a_pause_comes_before_the_next_step_and_a_cancel_is_for_good(
    store: OrmStore, kind: Numbers
) -> None:
    create(store)
    kind.before_step = {2: lambda: store.change_state(UID, (RUNNING,), PAUSED)}
    assert engine(kind).work(UID, 60) == "ended"
    assert kind.done == Counter(range(3))
    assert store.change_state(UID, (PAUSED,), RUNNING)
    kind.before_step = {4: lambda: store.change_state(UID, (RUNNING,), CANCELLED)}
    assert engine(kind).work(UID, 60) == "ended"
    assert kind.done == Counter(range(5))
    assert store.state(UID) == CANCELLED
    assert not store.change_state(UID, (PAUSED,), RUNNING)
    assert store.retry_failed(UID) == 0


def test_many_workers_share_the_steps(store: OrmStore, kind: Numbers) -> None:
    store.create(UID, kind="numbers", parameters='{"count": 40}', workers=4)
    engine(kind).work(UID, 0)

    def work(name: str) -> None:
        while engine(kind, name).work(UID, 60) != "ended":
            pass

    with ThreadPoolExecutor(4) as pool:
        for ended in [pool.submit(work, f"worker {n}") for n in range(4)]:
            ended.result(60)
    assert kind.done == Counter(range(40))
    assert store.state(UID) == "done"


def test_no_more_steps_run_at_once_than_workers_are_allowed(store: OrmStore, kind: Numbers) -> None:
    create(store, workers=2)
    engine(kind).work(UID, 0)
    record = store.get(UID)
    assert record is not None
    claimed = [store.claim(record, f"worker {n}", 30) for n in range(3)]
    assert [step is not None for step in claimed] == [True, True, False]


def test_of_two_people_one_pauses(store: OrmStore) -> None:
    create(store)
    barrier, answers = threading.Barrier(2), []

    def pause() -> None:
        barrier.wait(10)
        answers.append(store.change_state(UID, (RUNNING,), PAUSED))

    threads = [threading.Thread(target=pause) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [False, True]


def test_the_log_is_bounded_and_one_line_stays_one(store: OrmStore) -> None:
    create(store)
    for number in range(200):
        store.log(UID, f"{number} \x1b[31m first\nsecond {'x' * 400}")
    log = store.row(UID).log
    assert len(log) <= LOG_CHARS
    assert log.count("\n") == log.count(" first second ")
    assert "\x1b" not in log
    assert log.splitlines()[-1].split(" ")[2] == "199"


def test_a_marker_of_another_backfill_is_not_ours(store: OrmStore, kind: Numbers) -> None:
    create(store)
    engine(kind).work(UID, 0)
    assert not store.done(Marker("f" * 32, 0), "one", StepResult())
    assert store.tally(UID).open_steps == STEPS
