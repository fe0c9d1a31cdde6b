"""The form of a kind of backfill, made from what the kind asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from tailrace.pipeline.backfill import parameters as schema
from tailrace.pipeline.backfill.contracts import Kind
from tailrace.pipeline.backfill.parameters import Parameter, ParameterError

PREFIX = "p"
"""Keeps parameters apart from whatever else the form posts."""
_LINES_SHOWN = 4


class KindForm(forms.Form):
    """Asks for the parameters of a kind.

    The kind's own parser is the one judge of what is typed, as it is for the command and for
    Python; the browser helps with types and limits.
    """

    required_css_class = "required"

    def __init__(self, kind: Kind, data: Any = None, given: Mapping[str, Any] | None = None):
        """Make the fields.

        Args:
            kind: Whose parameters.
            data: What was posted, if it was.
            given: What to begin with in place of the defaults, by name.
        """
        super().__init__(data, prefix=PREFIX)
        self.parameters = tuple(kind.parameters())
        self.values: dict[str, Any] = {}
        """What was typed, parsed; once the form is valid."""
        self.raw: dict[str, Any] = {}
        """What was typed, as texts and booleans."""
        given = given or {}
        for parameter in self.parameters:
            begin = given.get(parameter.name, parameter.default)
            self.fields[parameter.name] = _field(parameter, begin)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.raw = {
            parameter.name: _typed(parameter, cleaned.get(parameter.name))
            for parameter in self.parameters
        }
        try:
            self.values = schema.parse(self.parameters, self.raw)
        except ParameterError as error:
            for name, problem in error.problems.items():
                self.add_error(name if name in self.fields else None, problem)
        return cleaned

    def suggestions(self) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
        """Return the lists that text inputs suggest from, by their ids."""
        return [
            (list_id(parameter), parameter.choices)
            for parameter in self.parameters
            if parameter.type == "text" and parameter.choices
        ]


def list_id(parameter: Parameter) -> str:
    """Return the id of the list that a text input suggests from."""
    return f"suggest_{parameter.name}"


def told(values: Mapping[str, Any], parameters: tuple[Parameter, ...]) -> list[tuple[str, str]]:
    """Return labels and values for people, as they were understood."""
    return [(label_of(parameter), shown(values.get(parameter.name))) for parameter in parameters]


def label_of(parameter: Parameter) -> str:
    """Return what a parameter is called on a page."""
    return parameter.label or parameter.name.replace("_", " ").capitalize()


def shown(value: Any) -> str:
    """Return a parameter's value for people."""
    if value is None or value == "" or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S %Z}"
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _field(parameter: Parameter, begin: Any) -> forms.Field:
    label = label_of(parameter)
    common: dict[str, Any] = {"label": label, "help_text": _help(parameter), "required": False}
    if parameter.type == "boolean":
        is_on = str(begin).lower() in ("true", "yes", "on", "1")
        return forms.BooleanField(initial=is_on, **common)
    field = forms.CharField(
        widget=_widget(parameter), initial=_initial(parameter, begin), strip=False, **common
    )
    if parameter.is_required:
        # The parser says so to those whose browser does not.
        field.widget.attrs.update({"required": True, "aria-required": "true"})
    return field


def _widget(parameter: Parameter) -> forms.Widget:
    if parameter.type == "choice":
        empty = [] if parameter.is_required and parameter.default else [("", "---------")]
        return forms.Select(choices=[*empty, *parameter.choices])
    if parameter.type == "lines":
        return forms.Textarea({"rows": _LINES_SHOWN, "class": "vLargeTextField"})
    if parameter.type == "time":
        return forms.DateTimeInput({"type": "datetime-local", "step": "1"})
    if parameter.type in ("integer", "number"):
        limits = {"min": parameter.minimum, "max": parameter.maximum}
        step = "1" if parameter.type == "integer" else "any"
        known = {name: _number(limit) for name, limit in limits.items() if limit is not None}
        return forms.NumberInput({"step": step, **known})
    if parameter.choices:
        return forms.TextInput({"class": "vTextField", "list": list_id(parameter)})
    return forms.TextInput({"class": "vTextField"})


def _number(limit: float) -> str:
    return str(int(limit)) if float(limit).is_integer() else repr(limit)


def _help(parameter: Parameter) -> str:
    hints = [parameter.help] if parameter.help else []
    if parameter.type == "lines":
        hints.append("One a line.")
    if parameter.type == "time":
        hints.append(f"In the time zone {timezone.get_current_timezone_name()}.")
    if parameter.type == "path":
        hints.append("A path on the hosts where workers run.")
    return " ".join(hints)


def _initial(parameter: Parameter, value: Any) -> Any:
    if parameter.type == "time" and isinstance(value, str):
        value = _moment(value) or value
    if isinstance(value, datetime):
        # The browser's input takes a time of day without a zone only.
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        return timezone.localtime(aware).replace(tzinfo=None).isoformat()
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value


def _typed(parameter: Parameter, value: Any) -> Any:
    """Return what was typed; times in the zone of the person who typed them."""
    if parameter.type != "time" or not value:
        return value
    moment = _moment(value)
    return value if moment is None else moment.isoformat()  # the parser tells what is wrong


def _moment(text: str) -> datetime | None:
    """Return a time, in the zone of the person who typed it unless it has its own."""
    try:
        moment = parse_datetime(text.strip())
    except ValueError:
        return None
    if moment is None or moment.tzinfo is not None:
        return moment
    return timezone.make_aware(moment)
