"""What imports ask for, and what their values mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, cast
from zoneinfo import ZoneInfo

from tailrace.pipeline.backfill.contracts import BackfillRefused, Values
from tailrace.pipeline.backfill.parameters import Parameter
from tailrace.pipeline.interchange.columns import COLUMN_TYPES, Columns
from tailrace.pipeline.interchange.times import TIME_FORMS, TimeForm, TimeReader

_TIME_LABELS = {
    "iso": "ISO 8601",
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
}
TIME_CHOICES = tuple((form, _TIME_LABELS[form]) for form in TIME_FORMS)


def columns_of(values: Values) -> Columns:
    """Return what parameters say of columns.

    Raises:
        BackfillRefused: a line is not ``name=value``, or a type is unknown.
    """
    types = _pairs(values["types"], "types")
    unknown = sorted(set(types.values()) - set(COLUMN_TYPES))
    if unknown:
        raise BackfillRefused(
            f"types: no {', '.join(unknown)}; there are {', '.join(COLUMN_TYPES)}"
        )
    return Columns(
        time=values["time_column"],
        measurement=values["measurement"] or "",
        measurement_column=values["measurement_column"],
        tags=tuple(values["tags"] or ()),
        fields=tuple(values["fields"] or ()),
        trace_id=values["trace_column"] or "",
        id=values["id_column"] or "",
        types=cast(Any, types),
        constant_tags=_pairs(values["constant_tags"], "constant_tags"),
    )


def times_of(values: Values) -> TimeReader:
    """Return what reads the times of a file."""
    return TimeReader(cast(TimeForm, values["time_form"]), zone_of(values))


def zone_of(values: Values) -> tzinfo | None:
    """Return the time zone that parameters name.

    Raises:
        BackfillRefused: there is none of this name.
    """
    name = values["time_zone"]
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise BackfillRefused(
            f"no time zone {name!r:.80}; write one such as Europe/Berlin or UTC"
        ) from error


def column_parameters(what: str) -> Sequence[Parameter]:
    """Return what an import asks for whose records have columns, or keys.

    Args:
        what: How they are called.
    """
    types = ", ".join(COLUMN_TYPES)
    return (
        Parameter(name="time_column", default="time", label="Time", help=f"The {what} with it."),
        Parameter(
            name="time_form", type="choice", choices=TIME_CHOICES, default="iso",
            label="Times are",
        ),
        Parameter(
            name="time_zone", label="Time zone",
            help="Of times that say no offset, such as Europe/Berlin; without it they are refused.",
        ),
        Parameter(name="measurement", label="Measurement", help="Of all records."),
        Parameter(
            name="measurement_column", default="measurement", label="Measurement from",
            help=f"The {what} that says it, if it is not the same for all.",
        ),
        Parameter(
            name="tags", type="lines", label="Tags",
            help=f"The {what}s to group and filter by, one a line.",
        ),
        Parameter(
            name="fields", type="lines", label="Fields",
            help=f"The {what}s to keep, one a line; without, all that are nothing else.",
        ),
        Parameter(
            name="types", type="lines", label="Types",
            help=f"zip=text, one a line, where they are not to be guessed: {types}.",
        ),
        Parameter(
            name="constant_tags", type="lines", label="Tags for all",
            help="source=till, one a line.",
        ),
        Parameter(name="trace_column", label="Trace id", help=f"The {what} with it, if any."),
        Parameter(
            name="id_column", label="Event id",
            help=f"The {what} with a UUID of each event, if there is one.",
        ),
    )  # fmt: skip


def _pairs(lines: Sequence[str] | None, what: str) -> dict[str, str]:
    pairs = {}
    for line in lines or ():
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise BackfillRefused(f"{what}: {line!r:.80} is not name=value")
        pairs[name.strip()] = value.strip()
    return pairs
