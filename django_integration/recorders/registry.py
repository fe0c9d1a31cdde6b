"""Which recorders run, by ``TAILRACE["RECORDERS"]``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import translate
from typing import Any, Literal

import msgspec
from django.utils.module_loading import import_string

from tailrace.django_integration.guard import shield
from tailrace.pipeline.config import Config, Problem
from tailrace.pipeline.masking import Masker

from . import requests
from .base import Recorder
from .exceptions import ExceptionRecorder
from .queries import QueryRecorder
from .requests import RequestRecorder

BUILT_IN: dict[str, type[Recorder]] = {
    recorder.name: recorder for recorder in (RequestRecorder, QueryRecorder, ExceptionRecorder)
}
"""On unless the settings turn them off."""

_installed: list[Recorder] = []


def install_recorders(config: Config) -> list[Recorder]:
    """Make and install the recorders that ``config`` asks for; first uninstall earlier ones.

    One that cannot be made is left out, and :func:`recorder_problems` tells why; one with wrong
    options runs with its defaults.

    Returns:
        The recorders that run now.
    """
    uninstall_recorders()
    if not config.enabled:
        return []
    masker = Masker(config.mask)
    for name, options in _wanted(config):
        with shield(name):
            recorder = _make(name, options, masker)
            if recorder is not None:
                recorder.install()
                _installed.append(recorder)
    requests.is_ignored_path = _path_matcher(config.ignore_paths)
    return list(_installed)


def uninstall_recorders() -> None:
    """Stop all recorders; the host is left as if they had never run."""
    requests.is_ignored_path = None
    while _installed:
        recorder = _installed.pop()
        with shield(recorder.name):
            recorder.uninstall()


def installed_recorders() -> list[Recorder]:
    """Return the recorders that run."""
    return list(_installed)


def get_recorder(name: str) -> Recorder | None:
    """Return the running recorder called ``name``, or ``None``."""
    return next((recorder for recorder in _installed if recorder.name == name), None)


def recorder_problems(config: Config) -> list[Problem]:
    """Return what is wrong in ``RECORDERS``, for a system check."""
    problems = []
    for name, options in _wanted(config):
        try:
            _recorder_class(name).convert_options(options)
        except msgspec.ValidationError as error:
            problems.append(_wrong_option(name, error))
        except Exception as error:  # noqa: BLE001 - the owner's module may fail in any way
            problems.append(_unusable(name, error))
    return problems


def _wanted(config: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    entries: dict[str, bool | dict[str, Any]] = {**dict.fromkeys(BUILT_IN, True)}
    entries.update(config.recorders)
    for name, entry in entries.items():
        if entry is not False:
            yield name, {} if entry is True else entry


def _recorder_class(name: str) -> type[Recorder]:
    recorder_class = BUILT_IN.get(name) or import_string(name)
    if not (isinstance(recorder_class, type) and issubclass(recorder_class, Recorder)):
        raise TypeError(f"{name} is not a subclass of Recorder")
    return recorder_class


def _make(name: str, options: Mapping[str, Any], masker: Masker) -> Recorder | None:
    try:
        recorder_class = _recorder_class(name)
    except (ImportError, TypeError):
        return None  # the system check tells the owner
    try:
        return recorder_class(options, masker)
    except msgspec.ValidationError:  # the system check tells this, too
        return recorder_class({}, masker)


def _unusable(name: str, error: Exception) -> Problem:
    close = difflib.get_close_matches(name, BUILT_IN, n=1)
    hint = (
        f"Did you mean {close[0]!r}?"
        if close
        else f"Known recorders: {', '.join(BUILT_IN)}; or the dotted path of a Recorder subclass."
    )
    setting = f"RECORDERS[{name!r}]"
    return Problem("invalid", setting, f"TAILRACE[{setting!r}] cannot be used: {error}.", hint)


def _wrong_option(name: str, error: msgspec.ValidationError) -> Problem:
    known = [field.encode_name for field in msgspec.structs.fields(_recorder_class(name).Options)]
    unknown = re.search(r"unknown field `(.*?)`", str(error))
    close = difflib.get_close_matches(unknown.group(1).upper(), known, n=1) if unknown else []
    hint = f"Did you mean {close[0]!r}?" if close else f"Its options: {', '.join(known) or 'none'}."
    setting = f"RECORDERS[{name!r}]"
    kind: Literal["unknown", "invalid"] = "unknown" if unknown else "invalid"
    return Problem(kind, setting, f"TAILRACE[{setting!r}]: {error}.", hint)


def _path_matcher(patterns: list[str]) -> Callable[[str], Any] | None:
    if not patterns:
        return None
    return re.compile("|".join(translate(pattern) for pattern in patterns)).match
