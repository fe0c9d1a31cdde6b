from __future__ import annotations

from typing import Any

import pytest

from tailrace.pipeline.shown import show, show_error


class Custom:
    def __repr__(self) -> str:
        pytest.fail("its repr was asked for")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        (1.5, "1.5"),
        ("a\0\ud800", r"'a\x00\ud800'"),
        (b"ab", "b'ab'"),
        (2**64, "an integer of 65 bits"),
        ([1, "a", None], "[1, 'a', None]"),
        ((1,), "(1)"),
        ({"k": [True]}, "{'k': [True]}"),
        ([[[["deep"]]]], "[[[[...]]]]"),
        (list(range(30)), "[" + ", ".join(map(str, range(20))) + ", ...]"),
        ("x" * 300, "'" + "x" * 200 + "'..."),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_are_shown_shortly(value: Any, shown: str) -> None:
    assert show(value, 200) == shown[:203]


def test_no_foreign_code_runs() -> None:
    assert show([Custom()]) == f"[<{__name__}.Custom>]"


def test_errors_that_cannot_be_shown_have_a_class_at_least() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert show_error(Odd()) == "Odd"
    assert show_error(ValueError("x" * 500)) == "ValueError: " + "x" * 200
