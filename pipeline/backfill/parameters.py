"""What a kind of backfill asks for, so that a command and a form can be made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from tailrace.pipeline.errors import TailraceError

Type = Literal["text", "lines", "integer", "number", "boolean", "time", "choice", "path"]

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")


class ParameterError(TailraceError):
    """Parameters are wrong; ``problems`` has a sentence for each, by name."""

    def __init__(self, problems: Mapping[str, str] | str = "") -> None:
        """Keep the problems.

        Args:
            problems: Sentences by parameter's name.
        """
        self.problems = dict(problems) if isinstance(problems, Mapping) else {"": problems}
        super().__init__("; ".join(": ".join(filter(None, pair)) for pair in self.problems.items()))

    def __reduce__(self) -> tuple[type, tuple[dict[str, str]]]:
        return type(self), (self.problems,)


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a kind asks for."""

    name: str
    """An identifier; the command's option is ``--name`` with dashes."""
    type: Type = "text"
    """``lines`` is several texts, one a line; ``time`` an instant, ISO 8601 with its offset (UTC
    where it has none); ``path`` a file on the host where workers run."""
    label: str = ""
    help: str = ""
    is_required: bool = False
    default: Any = None
    choices: tuple[tuple[str, str], ...] = ()
    """For ``choice``: value and label. For ``text``: what to suggest."""
    minimum: float | None = None
    maximum: float | None = None


def parse(parameters: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return typed values, defaults filled in.

    Args:
        parameters: What the kind asks for.
        given: What was given: texts, as from a command or a form, or typed values.

    Raises:
        ParameterError: with every problem there is.
    """
    problems: dict[str, str] = {}
    values: dict[str, Any] = {}
    known = {parameter.name: parameter for parameter in parameters}
    for name in given.keys() - known.keys():
        problems[name] = f"there is no such parameter; there are: {', '.join(known) or 'none'}"
    for name, parameter in known.items():
        raw = given.get(name)
        if raw is None or raw == "" or raw == []:
            values[name] = parameter.default
            if parameter.is_required and parameter.default is None:
                problems[name] = "must be given"
            continue
        try:
            values[name] = _converted(parameter, raw)
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        raise ParameterError(problems)
    return values


def to_json(values: Mapping[str, Any]) -> str:
    """Return parsed values as the text that the database keeps."""
    return msgspec.json.encode(dict(values)).decode()


def from_json(parameters: Sequence[Parameter], text: str) -> dict[str, Any]:
    """Return the values of a stored text; a parameter that has gone since is left out.

    Raises:
        ParameterError: they do not fit the kind any more.
    """
    stored = msgspec.json.decode(text)
    names = {parameter.name for parameter in parameters}
    return parse(parameters, {name: value for name, value in stored.items() if name in names})


def _converted(parameter: Parameter, raw: Any) -> Any:
    kind = parameter.type
    if kind in ("integer", "number"):
        return _number(parameter, raw)
    if kind == "boolean":
        return raw if isinstance(raw, bool) else _boolean(str(raw))
    if kind == "time":
        return _time(raw)
    if kind == "lines":
        lines = raw.splitlines() if isinstance(raw, str) else _texts(raw)
        return [line.strip() for line in lines if line.strip()]
    text = str(raw).strip()
    if kind == "choice" and text not in (known := [value for value, _ in parameter.choices]):
        raise ValueError(f"{text!r:.80} is not one of: {', '.join(known) or '(there are none)'}")
    return text


def _number(parameter: Parameter, raw: Any) -> int | float:
    if isinstance(raw, bool):
        raise ValueError(f"{raw} is no number")
    try:
        value = int(raw) if parameter.type == "integer" else float(raw)
    except (TypeError, ValueError, OverflowError):
        what = "whole number" if parameter.type == "integer" else "number"
        raise ValueError(f"{raw!r:.80} is no {what}") from None
    low, high = parameter.minimum, parameter.maximum
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = [f"at least {low:g}"] if low is not None else []
        bounds += [f"at most {high:g}"] if high is not None else []
        raise ValueError(f"{value} must be {' and '.join(bounds)}")
    return value


def _boolean(text: str) -> bool:
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise ValueError(f"{text!r:.80} is neither true nor false")


def _time(raw: Any) -> datetime:
    if not isinstance(raw, datetime):
        try:
            raw = datetime.fromisoformat(str(raw).strip())
        except ValueError:
            raise ValueError(
                f"{raw!r:.80} is no time; write it as 2026-01-31 or 2026-01-31T12:00:00+01:00"
            ) from None
    moment: datetime = raw
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _texts(raw: Any) -> Iterable[str]:
    if not isinstance(raw, Iterable):
        raise ValueError(f"{raw!r:.80} is no list of texts")
    return map(str, raw)
