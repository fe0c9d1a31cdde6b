"""The kind ``redact``: a new rule, applied to what is stored already.

Three tables hold what was recorded: events, dead letters, and exception groups with the message
of their latest exception. Each is gone through in windows of time or ranges of keys; a step
reads its rows, applies the rule, and writes back those that changed, with its marker, in one
transaction. Neither log nor notes tell what was found; they tell how many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from tailrace.backends import get_backend
from tailrace.backends.backfill.markers import found_result, put_result
from tailrace.backends.backfill.orm import connected
from tailrace.backends.backfill.rows import EventRows, slices_of
from tailrace.backends.backfill.selection import Selection, Window, window_of
from tailrace.backends.django_db import DjangoDBBackend
from tailrace.backends.exception_groups import MEASUREMENT as EXCEPTIONS
from tailrace.backends.written_models import written_models
from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Estimate,
    Kind,
    Slice,
    StepContext,
    StepResult,
    Values,
)
from tailrace.pipeline.backfill.parameters import Parameter
from tailrace.pipeline.errors import BackendError, TransientBackendError
from tailrace.pipeline.redaction import Rule, RuleError

from .backend_choice import backend_parameter

SLICE_ROWS = 5_000
PAGE_ROWS = 500
LOOKED_AT_ROWS = 2_000
_ROWS_A_SECOND = 10_000


class _Table(NamedTuple):
    """A table beside that of the events, and which of its columns a rule is applied to."""

    model: str
    text: str
    payload: str | None = None
    """Holds an event, of which the tags and fields are meant."""


_TABLES = {
    "letters": _Table("DeadLetter", "reason", "payload"),
    "groups": _Table("ExceptionGroup", "message"),
}
_EVENT_COLUMNS = ("tags", "fields")
_Changes = tuple[int, list[tuple[Any, dict[str, Any]]]]
"""How many rows were read, and of those that change: the row, and its columns."""


class Redact(Kind):
    """Applies a rule to history."""

    name = "redact"
    title = "Redact history"
    description = (
        "Takes what must not have been stored out of events, dead letters and exception groups: "
        "values by their names, parts of texts by a pattern, or values by their SHA-256. Cannot "
        "be undone."
    )

    def parameters(self) -> Sequence[Parameter]:
        return (
            backend_parameter("Backend"),
            Parameter(name="measurement", label="Measurement", help="Without: all of them."),
            Parameter(name="start", type="time", label="From", help="Without: the first one."),
            Parameter(name="end", type="time", label="To", help="Without: the last one there is."),
            Parameter(
                name="names", type="lines", label="Names",
                help="Of tags and fields, one a line, such as email or header.*: their values go.",
            ),
            Parameter(
                name="pattern", label="Pattern",
                help="A regular expression; what it matches in texts goes. It is kept in the "
                "record of this backfill: describe the secret, do not write it.",
            ),
            Parameter(
                name="hashes", type="lines", label="SHA-256",
                help="Of values that are to go, whole or as words in texts, one a line: for one "
                "secret that must not be written down here either.",
            ),
        )  # fmt: skip

    def check(self, values: Values) -> None:
        _rule(values)
        using = _alias(values)
        name = values["measurement"]
        if name and name in written_models():
            raise BackfillRefused(
                f"{name!r} is stored in a table of your own, {written_models()[name]._meta.label}, "
                "whose columns are typed: change them there"
            )
        try:
            if not self._count(using, values):
                raise BackfillRefused("there is nothing in this selection, so nothing was started")
        except BackendError as error:
            raise BackfillRefused(f"the backend cannot be read: {error}") from error

    def estimate(self, values: Values) -> Estimate:
        using, rule = _alias(values), _rule(values)
        rows = self._count(using, values)
        looked_at, changed = 0, 0
        with connected(using):
            for name in _measurements(using, values):
                found = _events(using, name, values).within(_window(values))
                for row in found.order_by("-time").values(*_EVENT_COLUMNS)[:LOOKED_AT_ROWS]:
                    looked_at += 1
                    changed += _changes(rule, row) is not None
        which = "all" if looked_at >= rows else "the newest"
        return Estimate(
            rows=rows,
            seconds=rows / _ROWS_A_SECOND,
            is_exact=True,
            notes=(f"Of {which} {looked_at} events looked at, {changed} would be changed.",),
        )

    def plan(self, values: Values) -> Iterator[Slice]:
        using = _alias(values)
        with connected(using):
            names = _measurements(using, values)
        for name in names:
            with connected(using):
                for slice_ in slices_of(_events(using, name, values)):
                    spec = {**slice_.spec, "table": "events", "measurement": name}
                    label = f"{name}, {slice_.label}"
                    yield msgspec.structs.replace(slice_, label=label, spec=spec)
        for table in _TABLES:
            yield from self._keyed(using, table, values)

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        using, rule = _alias(context.values), _rule(context.values)
        with connected(using):
            if (done := found_result(using, context.marker)) is not None:
                return done
        redact = _events_changes if slice_.spec["table"] == "events" else _rows_changes
        with connected(using):
            read, changes = redact(using, rule, slice_, context.values)
        context.alive()
        with connected(using), transaction.atomic(using=using, durable=True):
            for found, columns in changes:
                if not found.update(**columns):
                    raise TransientBackendError("a row was changed meanwhile; once more")
            present = read - len(changes)
            result = StepResult(rows_read=read, rows_written=len(changes), rows_present=present)
            put_result(using, context.marker, result)
        return result

    def finish(self, values: Values, total: StepResult) -> Sequence[str]:
        changed = total.rows_written
        notes = [f"{changed} of {total.rows_read} rows had something to redact; it is gone."]
        if changed:
            notes.append(
                "Rollups that group by a tag may still show it: recompute them for this window. "
                "Backups, and files that were exported, are not changed. See that it is not "
                "recorded again: TAILRACE['MASK']."
            )
        return notes

    def _count(self, using: str, values: Values) -> int:
        with connected(using):
            events = sum(
                _events(using, name, values).within(_window(values)).count()
                for name in _measurements(using, values)
            )
            return events + sum(_rows(using, table, values).count() for table in _TABLES)

    def _keyed(self, using: str, table: str, values: Values) -> Iterator[Slice]:
        after = 0
        while True:
            with connected(using):
                rest = _rows(using, table, values).filter(id__gt=after).order_by("id")
                keys = list(rest.values_list("id", flat=True)[:SLICE_ROWS])
            if not keys:
                return
            spec = {"table": table, "after": after, "until": keys[-1]}
            yield Slice(label=f"{table} up to {keys[-1]}", rows=len(keys), spec=spec)
            after = keys[-1]


def _events_changes(using: str, rule: Rule, slice_: Slice, values: Values) -> _Changes:
    window = window_of(slice_)
    assert window is not None, "our own slices are windows"
    rows = EventRows(using, Selection(slice_.spec["measurement"], window)).within(window)
    read = 0
    changes = []
    for row in rows.values("id", *_EVENT_COLUMNS).iterator(chunk_size=PAGE_ROWS):
        read += 1
        if (columns := _changes(rule, row)) is not None:
            # Within the window, which names the partition, or the chunk.
            changes.append((rows.filter(id=row["id"]), columns))
    return read, changes


def _rows_changes(using: str, rule: Rule, slice_: Slice, values: Values) -> _Changes:
    spec, table = slice_.spec, _TABLES[slice_.spec["table"]]
    rows = _rows(using, spec["table"], values).filter(id__gt=spec["after"], id__lte=spec["until"])
    names = [name for name in (table.text, table.payload) if name]
    read = 0
    changes = []
    for row in rows.values("id", *names).iterator(chunk_size=PAGE_ROWS):
        read += 1
        columns: dict[str, Any] = {table.text: rule.text(row[table.text])}
        if table.payload is not None and isinstance(payload := row[table.payload], Mapping):
            present = [name for name in _EVENT_COLUMNS if name in payload]
            parts = {name: _mapped(rule, payload[name]) for name in present}
            columns[table.payload] = {**payload, **parts}
        if any(columns[name] != row[name] for name in columns):
            # The drain counts exceptions here meanwhile; its text is not to be undone.
            unchanged = {"id": row["id"], table.text: row[table.text]}
            changes.append((_objects(using, table).filter(**unchanged), columns))
    return read, changes


def _mapped(rule: Rule, value: Any) -> Any:
    return rule.mapping(value) if isinstance(value, Mapping) else rule.value(value)


def _changes(rule: Rule, row: Any) -> dict[str, Any] | None:
    """Return the columns of an event as they should be; ``None`` if they are."""
    columns = {name: rule.mapping(row[name]) for name in _EVENT_COLUMNS}
    return None if all(columns[name] == row[name] for name in columns) else columns


def _rule(values: Values) -> Rule:
    try:
        return Rule(values["names"] or (), values["pattern"] or "", values["hashes"] or ())
    except RuleError as error:
        raise BackfillRefused(str(error)) from error


def _alias(values: Values) -> str:
    try:
        backend = get_backend(values["backend"])
    except ImproperlyConfigured as error:
        raise BackfillRefused(str(error)) from error
    if not isinstance(backend, DjangoDBBackend):
        raise BackfillRefused(
            f"{type(backend).__name__} (backend {backend.alias!r}) cannot be redacted: history is "
            "redacted in databases of Django's, PostgreSQL and TimescaleDB among them"
        )
    return str(backend.get_db_alias())


def _window(values: Values) -> Window:
    return Window(values["start"], values["end"])


def _events(using: str, name: str, values: Values) -> EventRows:
    selection = Selection.make(name, values["start"], values["end"], SLICE_ROWS)
    return EventRows(using, selection)


def _measurements(using: str, values: Values) -> list[str]:
    if values["measurement"]:
        return [values["measurement"]]
    objects = apps.get_model("tailrace", "Event").objects.using(using)
    names: list[str] = []
    # One step along the index for each name, in place of a look at each row.
    while True:
        rest = objects.filter(measurement__gt=names[-1]) if names else objects.all()
        found = rest.order_by("measurement").values_list("measurement", flat=True).first()
        if found is None:
            return names
        names.append(found)


def _objects(using: str, table: _Table) -> Any:
    return apps.get_model("tailrace", table.model).objects.using(using)


def _rows(using: str, table: str, values: Values) -> Any:
    """Return the rows of a table beside that of the events; a time that is not an event's own
    (of parking, of the latest exception) is taken for the end of what they hold."""
    rows = _objects(using, _TABLES[table])
    name, start = values["measurement"], values["start"]
    if table == "groups":
        rows = rows if name in (None, "", EXCEPTIONS) else rows.none()
        return rows if start is None else rows.filter(last_seen__gte=start)
    rows = rows.filter(measurement=name) if name else rows
    return rows if start is None else rows.filter(parked_at__gte=start)
