"""``settings.TAILRACE``, parsed once, and again when a test overrides it."""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings

from tailrace.pipeline.config import Config, Problem, parse

_parsed: tuple[Config, list[Problem]] | None = None


def get_config() -> Config:
    """Return the settings; where one is wrong, its default."""
    return _get()[0]


def get_problems() -> list[Problem]:
    """Return what is wrong in the settings."""
    return _get()[1]


def forget() -> None:
    """Parse again when next asked."""
    global _parsed
    _parsed = None


def _get() -> tuple[Config, list[Problem]]:
    global _parsed
    if _parsed is None:
        given = getattr(settings, "TAILRACE", {})
        if isinstance(given, Mapping):
            _parsed = parse(given)
        else:
            problem = Problem(
                "invalid",
                "TAILRACE",
                f"TAILRACE is a {type(given).__name__}; it must be a dict.",
                'Write TAILRACE = {"REDIS_URL": "redis://localhost:6379/0"}.',
            )
            _parsed = Config(), [problem]
    return _parsed
