"""Tracebacks as data: taken cheaply where an exception is caught, formatted later.

``freeze`` runs on the request's thread. It keeps names and numbers; no frame, no locals, no
exception object. The rest runs on the flusher's thread.
"""

from __future__ import annotations

import functools
import hashlib
import linecache
import os
import sys
import sysconfig
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.utils.functional import Promise

FRAMES_MAX = 50
"""Frames kept of one exception; of deeper ones the outermost and the innermost."""
CAUSES_MAX = 8
"""Exceptions kept of one chain."""
MESSAGE_RAW_MAX_CHARS = 16_384

_FRAMES_OUTERMOST = 10
_FRAMES_INNERMOST = FRAMES_MAX - _FRAMES_OUTERMOST
_FINGERPRINT_BYTES = 16
_PLAIN = (str, int, float, bool, bytes, type(None))
_LIBRARY_FOLDERS = ("/site-packages/", "/dist-packages/")
_STDLIB = tuple(
    {
        os.path.realpath(path).replace(os.sep, "/") + "/"
        for name in ("stdlib", "platstdlib")
        if (path := sysconfig.get_path(name))
    }
)


class Frame(NamedTuple):
    """One line of a traceback."""

    filename: str
    function: str
    line: int
    module: str


class Frozen(NamedTuple):
    """An exception as plain data."""

    type: str
    message: str
    frames: tuple[Frame, ...]
    skipped: int
    """Frames that were left out between the outermost and the innermost."""
    relation: str
    """How the exception before it in the chain came from it: ``""``, ``cause``, ``context``."""


class Place(NamedTuple):
    """Where a file belongs."""

    path: str
    """Its path without what differs between hosts."""
    is_in_app: bool


def freeze(error: BaseException) -> tuple[Frozen, ...]:
    """Return an exception and what caused it, the exception itself first."""
    chain: list[Frozen] = []
    seen: set[int] = set()
    current: BaseException | None = error
    relation = ""
    while current is not None and id(current) not in seen and len(chain) < CAUSES_MAX:
        seen.add(id(current))
        frames, skipped = _frames(current.__traceback__)
        kind = qualified_name(type(current))
        chain.append(Frozen(kind, _message(current), frames, skipped, relation))
        if current.__cause__ is not None:
            current, relation = current.__cause__, "cause"
        else:
            is_hidden = current.__suppress_context__
            current, relation = (None if is_hidden else current.__context__), "context"
    return tuple(chain)


def qualified_name(kind: type) -> str:
    """Return a class's name with its module, but ``ValueError`` without ``builtins``."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def fingerprint(error: Frozen) -> str:
    """Return what is the same for the same fault on every host and in every release.

    It takes in the exception's type and, in order, the project's functions it passed, each
    once: neither lines (they move), nor messages (they vary), nor the depth of a recursion.
    An exception that passed none of the project's functions goes by the libraries'.
    """
    frames = [frame for frame in error.frames if place(frame.filename, frame.module).is_in_app]
    steps = dict.fromkeys(_step(frame) for frame in frames or error.frames)
    text = "\n".join([error.type, *steps])
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=_FINGERPRINT_BYTES)
    return digest.hexdigest()


def location(error: Frozen) -> str:
    """Return ``file:function:line`` of the innermost frame in the project, else of any."""
    for frame in reversed(error.frames):
        if place(frame.filename, frame.module).is_in_app:
            break
    else:
        if not error.frames:
            return ""
        frame = error.frames[-1]
    return f"{place(frame.filename, frame.module).path}:{frame.function}:{frame.line}"


def format_frames(error: Frozen) -> list[str]:
    """Return the lines of a traceback, as Python prints them, with portable paths."""
    lines = []
    for number, frame in enumerate(error.frames):
        if error.skipped and number == _FRAMES_OUTERMOST:
            lines.append(f"  ... {error.skipped} frames left out ...")
        path = place(frame.filename, frame.module).path
        lines.append(f'  File "{path}", line {frame.line}, in {frame.function}')
        source = linecache.getline(frame.filename, frame.line).strip()
        if source:
            lines.append(f"    {source}")
    return lines


@functools.lru_cache(maxsize=4096)
def place(filename: str, module: str) -> Place:
    """Return where a file belongs: to the project, or to a library."""
    path = filename.replace(os.sep, "/")
    for folder in _LIBRARY_FOLDERS:
        if folder in path:
            return Place(path.rpartition(folder)[2], False)
    for folder in _STDLIB:
        if path.startswith(folder):
            return Place(path.removeprefix(folder), False)
    # An editable install of Tailrace is outside of site-packages.
    is_ours = module.partition(".")[0] == "tailrace"
    return Place(_relative(path), not is_ours and not path.startswith("<"))


def _relative(path: str) -> str:
    """Return a path relative to the folder that it is imported from."""
    entries = [os.path.abspath(entry).replace(os.sep, "/") + "/" for entry in sys.path]
    roots = [entry for entry in entries if path.startswith(entry)]
    if roots:
        return path.removeprefix(max(roots, key=len))
    return "/".join(path.split("/")[-3:])


def _step(frame: Frame) -> str:
    # A script is __main__ on one host and a module on another.
    module = frame.module
    if module in ("", "__main__"):
        module = place(frame.filename, frame.module).path
    return f"{module}:{frame.function}"


def _frames(traceback: Any) -> tuple[tuple[Frame, ...], int]:
    outermost: list[Frame] = []
    innermost: deque[Frame] = deque(maxlen=_FRAMES_INNERMOST)
    count = 0
    while traceback is not None:
        frame = traceback.tb_frame
        code = frame.f_code
        module = frame.f_globals.get("__name__")
        kept: Sequence[Any] = outermost if count < _FRAMES_OUTERMOST else innermost
        kept.append(  # type: ignore[attr-defined]
            Frame(
                code.co_filename,
                code.co_qualname,
                traceback.tb_lineno or 0,
                module if isinstance(module, str) else "",
            )
        )
        count += 1
        traceback = traceback.tb_next
    frames = (*outermost, *innermost)
    return frames, count - len(frames)


def _message(error: BaseException) -> str:
    """Return ``str(error)``, unless that might run a query.

    An exception that holds a queryset would evaluate it. A class that has its own ``__str__``
    is trusted; Django's logging calls it, too.
    """
    is_own = type(error).__str__ not in (BaseException.__str__, KeyError.__str__, OSError.__str__)
    if is_own or all(isinstance(arg, (*_PLAIN, Promise)) for arg in error.args):
        try:
            return str(error)[:MESSAGE_RAW_MAX_CHARS]
        except Exception:  # noqa: BLE001 - the host's code; Python prints the same then
            return f"<exception str() failed: {type(error).__qualname__}>"
    shown = [
        str(arg)[:MESSAGE_RAW_MAX_CHARS] if isinstance(arg, _PLAIN) else f"<{type(arg).__name__}>"
        for arg in error.args
    ]
    return ", ".join(shown)[:MESSAGE_RAW_MAX_CHARS]
