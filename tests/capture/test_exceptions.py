"""Exceptions: once each, grouped by where they come from, without secrets."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
from capture.models import Item
from capture.test_requests import get
from django.core.signals import got_request_exception
from django.test import RequestFactory, override_settings
from django.utils.translation import gettext_lazy

from tailrace.django_integration.recorders import exceptions, tracebacks
from tailrace.django_integration.recorders.exceptions import record_exception
from tailrace.django_integration.recorders.tracebacks import Frame, Frozen
from tailrace.pipeline import suppress_recording
from tailrace.pipeline.context import enter_trace, leave_trace


def frozen(*frames: Frame, kind: str = "ValueError", message: str = "") -> Frozen:
    return Frozen(kind, message, frames, 0, "")


def in_app(function: str, line: int = 1, filename: str = "/srv/a/shop/views.py") -> Frame:
    return Frame(filename, function, line, "shop.views")


def raised(error: Exception, depth: int = 0) -> Exception:
    def recurse(left: int) -> None:
        if left:
            recurse(left - 1)
        raise error

    try:
        recurse(depth)
    except type(error) as caught:
        return caught
    raise AssertionError


def test_an_exception(install: Any, emitted: Any) -> None:
    install()
    assert get("/fail/").status_code == 500
    event, request = emitted.one("exception"), emitted.one("request")
    assert event.tags == {"type": "ValueError", "route": "fail/", "handled": "no"}
    assert event.trace_id == request.trace_id
    assert event.fields["message"] == "no such thing, token=*** 13"
    assert event.fields["location"].startswith("capture/urls.py:fail:")
    assert len(event.fields["fingerprint"]) == 32
    lines = event.fields["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no such thing, token=*** 13"
    assert lines[-2].strip().startswith("raise ValueError(f")
    assert '  File "django/core/handlers/exception.py", line ' in event.fields["traceback"]
    for leak in ("abc123", "hunter2"):
        assert leak not in repr(event)
    assert "causes" not in event.fields


def test_a_chain(install: Any, emitted: Any) -> None:
    install()
    get("/fail_in_chain/")
    event = emitted.one("exception")
    assert event.tags["type"] == "RuntimeError"
    assert event.fields["causes"] == "KeyError"
    text = event.fields["traceback"]
    assert text.index("KeyError: 'missing'") < text.index("direct cause") < text.index("outer")


def test_once_in_a_request_and_again_in_the_next(install: Any, emitted: Any) -> None:
    install()
    error = raised(ValueError("again"))
    for trace in ("one", "two"):
        token = enter_trace(trace)
        try:
            for _ in range(3):
                try:
                    raise error
                except ValueError:
                    got_request_exception.send(sender=None, request=RequestFactory().get("/"))
        finally:
            leave_trace(token)
    assert [e.trace_id for e in emitted.made()] == ["one", "two"]


@override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True)
def test_once_where_django_signals_it_at_every_level(install: Any, emitted: Any) -> None:
    install()
    with pytest.raises(ValueError, match="no such thing"):
        get("/fail/")
    assert len(emitted.made("exception")) == 1
    assert emitted.one("request").tags["status"] == "500"


def test_other_recorders_can_report_exceptions(install: Any, emitted: Any) -> None:
    record_exception(raised(ValueError("not installed")))
    install()
    error = raised(ValueError("job"))
    record_exception(error, route="tasks.mail", is_handled=True, occasion="job 1")
    record_exception(error, route="tasks.mail", is_handled=True, occasion="job 1")
    record_exception(error, route="tasks.mail", occasion="job 2")
    with suppress_recording():
        record_exception(raised(ValueError("ours")))
    assert [e.tags["handled"] for e in emitted.made()] == ["yes", "no"]
    assert emitted.made()[0].tags["route"] == "tasks.mail"


def test_exceptions_that_forbid_attributes(install: Any, emitted: Any) -> None:
    @dataclass(frozen=True)
    class Frozen(Exception):
        code: int

    class Slotted(Exception):
        __slots__ = ()

    install()
    for error in (Frozen(7), Slotted("x")):
        record_exception(error)
        record_exception(error)
    assert len(emitted) == 2


def test_messages_never_evaluate_what_may_run_a_query() -> None:
    class Lazy:
        def __repr__(self) -> str:
            raise AssertionError("evaluated")

    def message(*args: Any) -> str:
        return tracebacks.freeze(ValueError(*args))[0].message

    assert message("bad", Lazy(), 7) == "bad, <Lazy>, 7"
    assert message(Item.objects.all()) == "<QuerySet>"
    assert message(gettext_lazy("Hello")) == "Hello"
    assert tracebacks.freeze(KeyError("k"))[0].message == "'k'"
    assert len(message("x" * 10**6)) == tracebacks.MESSAGE_RAW_MAX_CHARS


def test_fingerprints_ignore_lines_messages_hosts_and_depth() -> None:
    base = tracebacks.fingerprint(frozen(in_app("checkout", 10), message="a"))
    same = [
        frozen(in_app("checkout", 99), message="b"),
        frozen(in_app("checkout", 10, "/other/host/shop/views.py")),
        frozen(*[in_app("checkout")] * 30),
        frozen(
            Frame("/x/lib/python3.11/site-packages/django/a.py", "get", 1, "django.a"),
            in_app("checkout"),
        ),
    ]
    assert {tracebacks.fingerprint(error) for error in same} == {base}
    other = [
        frozen(in_app("cart")),
        frozen(in_app("checkout"), kind="KeyError"),
        frozen(in_app("checkout"), in_app("total")),
    ]
    assert len({base, *(tracebacks.fingerprint(error) for error in other)}) == 4


def test_fingerprints_of_library_errors_agree_between_hosts() -> None:
    def library(prefix: str) -> Frozen:
        return frozen(Frame(f"{prefix}/site-packages/lib/core.py", "run", 3, "__main__"))

    one, two = library("/srv/venv/lib/python3.11"), library("/home/x/.venv/lib/python3.12")
    assert tracebacks.fingerprint(one) == tracebacks.fingerprint(two)
    assert tracebacks.location(one) == "lib/core.py:run:3"


def test_a_real_recursion_has_one_fingerprint_and_bounded_frames() -> None:
    shallow, deep = (tracebacks.freeze(raised(ValueError("x"), depth))[0] for depth in (3, 900))
    assert tracebacks.fingerprint(shallow) == tracebacks.fingerprint(deep)
    assert len(deep.frames) == tracebacks.FRAMES_MAX
    assert deep.skipped == 902 - tracebacks.FRAMES_MAX
    assert f"  ... {deep.skipped} frames left out ..." in tracebacks.format_frames(deep)


def test_chains_are_bounded_and_may_be_circular() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert [error.message for error in tracebacks.freeze(one)] == ["one", "two"]
    last: Exception = ValueError("0")
    for number in range(50):
        following = ValueError(f"{number}")
        following.__cause__ = last
        last = following
    assert len(tracebacks.freeze(last)) == tracebacks.CAUSES_MAX
    last.__cause__ = None
    last.__suppress_context__ = True
    assert len(tracebacks.freeze(last)) == 1


def test_texts_are_bounded(install: Any, emitted: Any) -> None:
    install()
    error = raised(ValueError("x " * 10**6), 900)
    error.__cause__ = cause = raised(KeyError("y " * 10**6), 900)
    cause.__cause__ = raised(KeyError("z " * 10**6), 900)
    record_exception(error)
    fields = emitted.one("exception").fields
    assert len(fields["traceback"]) == exceptions.TRACEBACK_MAX_CHARS
    assert len(fields["message"]) == exceptions.MESSAGE_MAX_CHARS


def test_our_frames_are_no_part_of_the_application() -> None:
    ours = "/srv/checkout/django_integration/middleware.py"
    assert not tracebacks.place(ours, "tailrace.django_integration.middleware").is_in_app
    assert not tracebacks.place("<frozen importlib._bootstrap>", "importlib").is_in_app
    assert tracebacks.place("/srv/shop/views.py", "shop.views").is_in_app


def test_nothing_is_kept_alive(install: Any, emitted: Any) -> None:
    class Kept:
        pass

    def fail() -> weakref.ref[Kept]:
        kept = Kept()
        try:
            raise ValueError("x")
        except ValueError as error:
            record_exception(error)
        return weakref.ref(kept)

    install()
    reference = fail()
    gc.collect()
    assert reference() is None
    assert len(emitted) == 1
