"""What Celery logs of our ticks, and of everything else."""

from __future__ import annotations

import logging

import pytest

from tailrace.pipeline.quiet_ticks import keep_quiet

STRATEGY = logging.getLogger("celery.worker.strategy")
REQUEST = logging.getLogger("celery.worker.request")
BEAT = logging.getLogger("celery.beat")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    keep_quiet(["tailrace.tick"])


def worker_says(level: int, task: str) -> None:
    context = {"name": task, "id": "1", "args": "()", "kwargs": "{}"}
    STRATEGY.log(level, "Task %(name)s[%(id)s] received", context)


def test_only_what_info_says_of_ticks_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        worker_says(logging.INFO, "tailrace.tick")
        worker_says(logging.ERROR, "tailrace.tick")
        worker_says(logging.INFO, "shop.tasks.send")
        BEAT.info("Scheduler: Sending due task %s (%s)", "tailrace.tick", "tailrace.tick")
        BEAT.info("Scheduler: Sending due task %s (%s)", "nightly", "shop.tasks.report")
        BEAT.info("beat: Starting...")
        REQUEST.info("Discarding revoked task: %s[%s]", "tailrace.tick", "1")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "Task tailrace.tick[1] received"),
        ("INFO", "Task shop.tasks.send[1] received"),
        ("INFO", "Scheduler: Sending due task nightly (shop.tasks.report)"),
        ("INFO", "beat: Starting..."),
    ]


def test_debug_shows_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        worker_says(logging.INFO, "tailrace.tick")
    assert len(caplog.records) == 1
