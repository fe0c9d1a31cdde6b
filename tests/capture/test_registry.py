"""Recorders are chosen, told their options, and added by the settings."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import pytest
from capture.test_requests import get
from django.core.signals import got_request_exception, request_finished
from django.db.backends.signals import connection_created

from tailrace.django_integration import guard, recorders
from tailrace.django_integration.recorders import (
    SUPPRESSED,
    Recorder,
    RecorderOptions,
    current_trace,
    emit,
    requests,
    shield,
)
from tailrace.pipeline.config import Config
from tailrace.pipeline.event import Value


class FinishedRecorder(Recorder):
    """What an outsider writes."""

    name: ClassVar[str] = "finished"

    class Options(RecorderOptions, frozen=True):
        label: str = "none"
        depth: int = 1

    def install(self) -> None:
        request_finished.connect(self._finished, dispatch_uid="test.finished")

    def uninstall(self) -> None:
        request_finished.disconnect(dispatch_uid="test.finished")

    def _finished(self, sender: Any, **kwargs: Any) -> None:
        with shield("finished"):
            trace_id = current_trace()
            if trace_id is not SUPPRESSED:
                emit("finished", time.time_ns(), self._finish, type(sender).__name__, trace_id)

    def _finish(self, raw: str) -> tuple[dict[str, str], dict[str, Value]]:
        return {"label": self.options.label}, {"sender": self.masker.mask_text(raw)}


class FailingRecorder(FinishedRecorder):
    """Cannot be installed."""

    def install(self) -> None:
        raise RuntimeError("no such source")


OWN = f"{__name__}.FinishedRecorder"


def test_built_in_recorders_are_on(install: Any) -> None:
    assert [recorder.name for recorder in install()] == ["requests", "queries", "exceptions"]
    assert recorders.get_recorder("requests") is requests.active
    assert recorders.get_recorder("nothing") is None


def test_installing_again_replaces(install: Any, emitted: Any) -> None:
    first = install()
    second = install()
    assert recorders.installed_recorders() == second
    assert not set(first) & set(second)
    get("/fail/")
    assert [event.measurement for event in emitted.made()] == ["exception", "request"]
    recorders.uninstall_recorders()
    get("/fail/")
    assert len(emitted) == 2


def test_recorders_can_be_turned_off(install: Any, emitted: Any) -> None:
    installed = install(RECORDERS={"requests": False, "exceptions": False})
    assert [recorder.name for recorder in installed] == ["queries"]
    get("/fail/")
    assert emitted == []
    assert install(ENABLED=False) == []
    get("/")
    assert emitted == []


def test_a_recorder_of_somebody_else(
    install: Any, emitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "emit", emitted.emit)
    installed = install(RECORDERS={OWN: {"LABEL": "x"}})
    assert installed[-1].name == "finished"
    assert recorders.recorder_problems(Config(recorders={OWN: {"LABEL": "x"}})) == []
    get("/")
    request_finished.send(sender="x")
    event = emitted.made("finished")[-1]
    assert event.tags == {"label": "x"}
    assert event.fields == {"sender": "str"}


@pytest.mark.parametrize(
    ("entries", "kind", "text"),
    [
        ({"querys": {}}, "invalid", "Did you mean 'queries'?"),
        ({"nowhere.Recorder": {}}, "invalid", "Known recorders: requests, queries, exceptions"),
        ({"capture.urls.hello": {}}, "invalid", "not a subclass of Recorder"),
        ({"queries": {"PARAM": True}}, "unknown", "Did you mean 'PARAMS'?"),
        ({"queries": {"params": True}}, "unknown", "Did you mean 'PARAMS'?"),
        ({"queries": {"PARAMS": "yes"}}, "invalid", "Expected `bool`, got `str`"),
        ({"requests": {"IP": "some"}}, "invalid", "Its options: HEADERS, QUERY_STRING"),
        ({"exceptions": {"X": 1}}, "unknown", "Its options: none."),
        ({OWN: {"DEPTH": "deep"}}, "invalid", "Its options: LABEL, DEPTH"),
    ],
)
def test_problems_say_what_to_write(entries: Any, kind: str, text: str) -> None:
    (problem,) = recorders.recorder_problems(Config(recorders=entries))
    assert problem.kind == kind
    assert text in f"{problem.message} {problem.hint}"
    assert problem.setting == f"RECORDERS[{next(iter(entries))!r}]"


def test_wrong_settings_never_stop_the_host(
    install: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "is_shielded", True)
    failing = f"{__name__}.FailingRecorder"
    installed = install(RECORDERS={"queries": {"PARAM": 1}, "nowhere.X": {}, failing: True})
    assert [recorder.name for recorder in installed] == ["requests", "queries", "exceptions"]
    assert installed[1].options.params is False
    assert "no such source" in caplog.text


def test_uninstalling_leaves_no_receivers(install: Any, emitted: Any) -> None:
    signals = (got_request_exception, connection_created, request_finished)
    before = [len(signal.receivers) for signal in signals]
    install(RECORDERS={OWN: {}}, IGNORE_PATHS=["/x"])
    assert [len(signal.receivers) for signal in signals] == [n + 1 for n in before]
    for recorder in recorders.installed_recorders():
        recorder.install()
    assert [len(signal.receivers) for signal in signals] == [n + 1 for n in before]
    for _ in range(2):
        recorders.uninstall_recorders()
    assert [len(signal.receivers) for signal in signals] == before
    assert requests.active is None
    assert requests.is_ignored_path is None
    assert recorders.installed_recorders() == []
