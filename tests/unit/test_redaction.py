"""Rules of redaction."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.pipeline.masking import MASK
from tailrace.pipeline.redaction import TEXT_MAX_CHARS, Rule, RuleError

CUSTOMER = r"K-[0-9]{6}"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_names_mask_whole_values_at_every_depth() -> None:
    rule = Rule(names=["Email", "header.*"])
    found = rule.mapping(
        {"email": "a@b.c", "EMAIL": 5, "header.x-y": "z", "e": {"email": [1]}, "gone": None, "n": 1}
    )
    assert found == {
        "email": MASK, "EMAIL": MASK, "header.x-y": MASK, "e": {"email": MASK}, "gone": None,
        "n": 1,
    }  # fmt: skip
    assert rule.mapping({"email": None}) == {"email": None}
    assert rule.mapping({"my_email": "x"}) == {"my_email": "x"}


def test_patterns_mask_what_they_match() -> None:
    rule = Rule(pattern=CUSTOMER)
    found = rule.mapping({"a": "of K-123456, K-654321.", "b": ["K-123456", 7], "c": True, "d": 1.5})
    assert found == {"a": f"of {MASK}, {MASK}.", "b": [MASK, 7], "c": True, "d": 1.5}
    assert Rule(pattern=r"[0-9]{12}").mapping({"n": 491701234567, "m": 12}) == {"n": MASK, "m": 12}


def test_hashes_mask_a_value_that_nobody_writes_down() -> None:
    rule = Rule(hashes=[sha256("hunter2"), sha256("two words")])
    assert rule.text("login with hunter2, or 'hunter2'") == f"login with {MASK}, or '{MASK}'"
    assert rule.text("two words") == MASK
    assert rule.text("hunter22") == "hunter22"


TEXTS = st.text(st.sampled_from("ab*K-1 0."), max_size=30)


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    pattern=st.sampled_from([r"a+", r"K-?[01]*+", r"(?<=b)[ab]", r"\ba", r"a$", r"^b", r"b\*?1"]),
)
def test_twice_is_the_same_as_once(text: str, pattern: str) -> None:
    rule = Rule(pattern=pattern, names=["secret"], hashes=[sha256("ab")])
    once = rule.mapping({"x": text, "secret": text, "nested": [{"x": text}]})
    assert rule.mapping(once) == once


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "what is to be redacted"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "a*"}, "empty text"),
        ({"pattern": "a|"}, "empty text"),
        ({"pattern": "."}, "matches \\*\\*\\*"),
        ({"pattern": r"\*"}, "matches \\*\\*\\*"),
        ({"pattern": "(a+)+b"}, "for ever"),
        ({"pattern": "(?:a|a)+b"}, "for ever"),
        ({"pattern": "(?:ab|ab?)*c"}, "for ever"),
        ({"pattern": "(?:(?:a+)?b?)*c"}, "for ever"),
        ({"pattern": "x" * 501}, "longer than 500"),
        ({"hashes": ["hunter2"]}, "64 hexadecimal digits"),
    ],
)
def test_rules_that_make_no_sense_or_no_end(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(RuleError, match=reason):
        Rule(**arguments)


@pytest.mark.parametrize(
    "pattern", [CUSTOMER, r"\w+@\w+\.\w+", r"(?:[0-9][ -]?){13,16}", r"(?:a+)++b", r"x(?:y|z)w"]
)
def test_rules_that_make_sense(pattern: str) -> None:
    Rule(pattern=pattern)


def test_long_texts_take_no_time() -> None:
    rule = Rule(pattern=r"a.*b")
    started = time.perf_counter()
    assert rule.text("a" * (TEXT_MAX_CHARS + 1)) == MASK
    rule.text("a" * 16_384)
    assert time.perf_counter() - started < 30


def test_depth_is_bounded() -> None:
    value: object = "K-123456"
    for _ in range(2_000):
        value = [value]
    assert "K-123456" not in repr(Rule(pattern=CUSTOMER).mapping({"x": value}))[:10_000]
