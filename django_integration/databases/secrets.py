"""Keeping passwords out of everything that people and machines read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from django.utils.html import escape
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

HIDDEN = "********"
#: A password this short would blank out half the text it is looked for in.
MIN_SECRET_CHARS = 3

_SECRET_NAME = re.compile(r"pass|secret|token|key|credential|auth", re.IGNORECASE)
_HARMLESS_NAMES = frozenset({"sslkey", "ssl_key", "keepalives", "keepalives_idle"})
_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@'\"]*@", re.IGNORECASE)
_PASSWORD_CLAUSE = re.compile(
    r"(?P<clause>\b(?:password|identified\s+by|passwd|pwd)\b\s*(?:=|:|\s)\s*)"
    r"(?:'(?:[^']|'')*'|\"[^\"]*\"|[^\s,;)'\"]+)",
    re.IGNORECASE,
)


def scrub(text: object) -> str:
    """Blank out every configured password, URL user part and ``PASSWORD '...'`` clause.

    Args:
        text: anything; its ``str()`` is cleaned.
    """
    cleaned = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", str(text))
    cleaned = _PASSWORD_CLAUSE.sub(_hide_value, cleaned)
    for secret in _known_secrets():
        cleaned = cleaned.replace(secret, HIDDEN)
    return cleaned


def _hide_value(match: re.Match[str]) -> str:
    value = match.group()[len(match.group("clause")) :]
    is_prose = match.group("clause")[-1:].isspace() and not value.startswith(("'", '"'))
    # "password authentication failed" is what the reader needs to see.
    return match.group() if is_prose else f"{match.group('clause')}{HIDDEN}"


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a mapping of settings, with the values of secret-sounding names hidden, at any depth."""
    return {name: _clean_value(str(name), value) for name, value in config.items()}


def is_secret_name(name: str) -> bool:
    """Say whether a setting of this name holds a secret."""
    lowered = name.lower()
    return lowered not in _HARMLESS_NAMES and _SECRET_NAME.search(lowered) is not None


def _clean_value(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_secrets(value)
    if is_secret_name(name) and value not in (None, "", True, False):
        return HIDDEN
    return scrub(value) if isinstance(value, str) else value


def _known_secrets() -> list[str]:
    # Imported here: settings.py itself imports this module by way of databases_from_env().
    from django.db import connections

    found: set[str] = set()
    for config in connections.settings.values():
        for secret in _secrets_in(config):
            found |= {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
            found |= {str(escape(secret)), str(escape(repr(secret)[1:-1]))}
    return sorted((secret for secret in found if secret), key=len, reverse=True)


def _secrets_in(config: Mapping[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _secrets_in(value)
        elif (
            isinstance(value, str) and is_secret_name(str(name)) and len(value) >= MIN_SECRET_CHARS
        ):
            yield value


class SafeFilter(SafeExceptionReporterFilter):
    """Django's filter for error pages, which also hides database URLs.

    Set ``DEFAULT_EXCEPTION_REPORTER_FILTER`` to
    ``"tailrace.django_integration.databases.secrets.SafeFilter"``.

    Django hides names with PASS, SECRET, TOKEN and so on. ``DATABASE__URL`` is none of them, and
    ``runserver`` puts the whole environment into ``request.META``, which the debug page prints.
    """

    hidden_settings = re.compile(
        SafeExceptionReporterFilter.hidden_settings.pattern + r"|DATABASE_*URL|_DSN|\bDSN",
        re.IGNORECASE,
    )

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """Hide by name as Django does, and clean the strings that are left."""
        cleansed = super().cleanse_setting(key, value)
        return scrub(cleansed) if isinstance(cleansed, str) else cleansed

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> list[tuple[str, Any]]:
        """Clean the frames' local variables too, also with ``DEBUG = True``."""
        pairs = super().get_traceback_frame_variables(request, tb_frame)
        return [(name, self._clean_local(name, value)) for name, value in pairs]

    def _clean_local(self, name: str, value: Any) -> Any:
        if self.hidden_settings.search(name):
            return HIDDEN
        shown = repr(value)
        cleaned = scrub(shown)
        return value if cleaned == shown else cleaned


class SafeReporter(ExceptionReporter):
    """Django's error report, with whatever the filter could not know cleaned from the whole text.

    Set ``DEFAULT_EXCEPTION_REPORTER`` to
    ``"tailrace.django_integration.databases.secrets.SafeReporter"``. An exception's message, for
    one, is nothing that a filter of variables sees.
    """

    def get_traceback_html(self) -> str:
        """Return the page."""
        return scrub(super().get_traceback_html())

    def get_traceback_text(self) -> str:
        """Return the text that is mailed to the admins, or sent to those who ask for no HTML."""
        return scrub(super().get_traceback_text())
