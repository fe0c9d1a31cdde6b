"""A rule for what must not have been stored, and what it makes of an event.

A rule names things (``email``, ``header.*``), describes texts by a pattern, or knows values by
their SHA-256, so that the one secret that is to go need not be written down once more. What it
has done once it leaves alone: applied twice is the same as applied once.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Mapping, Sequence
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from .masking import MASK

PATTERN_MAX_CHARS = 500
TEXT_MAX_CHARS = 32_768
"""A longer text in which a rule looks for something is masked as a whole."""
DEPTH_MAX_LEVELS = 24

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_TOKEN = re.compile(r"[^\s\"'`=,;:&?/<>()\[\]{}|]+")


class RuleError(ValueError):
    """The rule makes no sense, or no end; says what to change."""


class Rule:
    """What must not have been stored."""

    def __init__(
        self, names: Sequence[str] = (), pattern: str = "", hashes: Sequence[str] = ()
    ) -> None:
        """Check and keep a rule.

        Args:
            names: Of tags and fields whose values go whole; ``*`` and ``?`` stand for anything,
                case does not matter.
            pattern: A regular expression; what it matches in texts goes.
            hashes: SHA-256 in hexadecimal digits, of whole texts, or of words in them.

        Raises:
            RuleError: there is nothing in it, or the pattern is wrong.
        """
        if not names and not pattern and not hashes:
            raise RuleError("give names, a pattern, or hashes: what is to be redacted?")
        translated = [fnmatch.translate(name.lower()) for name in names]
        self._names = re.compile("|".join(translated) or "$^")
        self._pattern = _compiled(pattern) if pattern else None
        bad = [text for text in hashes if _SHA256.fullmatch(text) is None]
        if bad:
            raise RuleError("hashes are SHA-256 in 64 hexadecimal digits (sha256sum prints them)")
        self._hashes = frozenset(text.lower() for text in hashes)

    def mapping(self, items: Mapping[str, Any], _depth: int = 0) -> dict[str, Any]:
        """Return tags or fields without what the rule means, at every depth."""
        return {
            name: self._named(value)
            if self._names.match(name.lower())
            else self.value(value, _depth)
            for name, value in items.items()
        }

    def value(self, value: Any, _depth: int = 0) -> Any:
        """Return a value without what the rule means."""
        if isinstance(value, str):
            return self.text(value)
        if _depth >= DEPTH_MAX_LEVELS:
            return MASK
        if isinstance(value, Mapping):
            return self.mapping(value, _depth + 1)
        if isinstance(value, list):
            return [self.value(item, _depth + 1) for item in value]
        if isinstance(value, bool) or value is None:
            return value
        # A number may be a card's, or a telephone's.
        return value if self.text(str(value)) == str(value) else MASK

    def text(self, text: str) -> str:
        """Return a text without what the rule means."""
        if self._hashes:
            text = MASK if _sha256(text) in self._hashes else _TOKEN.sub(self._unless_known, text)
        if self._pattern is None:
            return text
        if len(text) > TEXT_MAX_CHARS:
            return MASK
        once = self._pattern.sub(MASK, text)
        # Where what is left makes a new match (a look-behind, an anchor), nothing is left.
        return once if self._pattern.sub(MASK, once) == once else MASK

    def _named(self, value: Any) -> Any:
        return None if value is None else MASK

    def _unless_known(self, found: re.Match[str]) -> str:
        return MASK if _sha256(found.group()) in self._hashes else found.group()


def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) > PATTERN_MAX_CHARS:
        raise RuleError(f"the pattern is longer than {PATTERN_MAX_CHARS} characters")
    try:
        compiled = re.compile(pattern)
        parsed = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise RuleError(f"the pattern is no regular expression: {error}") from error
    if compiled.search("") is not None:
        raise RuleError("the pattern matches an empty text, so it would match everywhere")
    if compiled.sub(MASK, MASK) != MASK:
        raise RuleError(f"the pattern matches {MASK}, which is what stands where something was")
    if _is_explosive(parsed, within_repeat=False):
        raise RuleError(
            "the pattern repeats something that repeats or has alternatives, which may take for "
            "ever on some text; make the repeat possessive (++ or *+), or bound the outer one to 1"
        )
    return compiled


def _is_explosive(parsed: Any, *, within_repeat: bool) -> bool:
    """Return whether a repeat that can give back holds another one, or alternatives."""
    for operation, argument in parsed:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = argument
            repeats = high > 1 and low != high
            if within_repeat and repeats:
                return True
            if _is_explosive(inner, within_repeat=within_repeat or high > 1):
                return True
        elif name == "BRANCH":
            if within_repeat:
                return True
            if any(_is_explosive(branch, within_repeat=False) for branch in argument[1]):
                return True
        elif any(_is_explosive(inner, within_repeat=within_repeat) for inner in _inner(argument)):
            return True
    return False


def _inner(argument: Any) -> list[Any]:
    """Return the parts of a group, an assertion or a possessive repeat."""
    if isinstance(argument, parser.SubPattern):
        return [argument]
    if isinstance(argument, tuple):
        return [part for part in argument if isinstance(part, parser.SubPattern)]
    return []


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
