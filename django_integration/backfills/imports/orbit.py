"""django-orbit's one table, ``orbit_orbitentry``: 17 types of entries, each with its payload.

An entry's type is the measurement, its own id the event's, its family the trace, and the time
at which it was stored the time: it keeps no other. What its payload says becomes tags where it
has few values, and fields else, under the names that Tailrace's own recorders use where there
are such.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import connections, models

from tailrace.django_integration.recorders.sql_params import shown_params
from tailrace.django_integration.recorders.sql_text import RAW_SQL_MAX_CHARS, describe
from tailrace.pipeline.event import ns_from_datetime
from tailrace.pipeline.interchange import BadRecord, Draft
from tailrace.pipeline.masking import Masker

from .payload import fields_of, parse_json, scalar
from .tables import Part, PeerTable, Reader, Row

TABLE = PeerTable(
    "orbit_orbitentry",
    {
        "id": models.UUIDField(primary_key=True),
        "type": models.CharField(max_length=20),
        "family_hash": models.CharField(max_length=64, null=True),
        "fingerprint": models.CharField(max_length=32),
        "tags": models.CharField(max_length=255),
        # As text: one entry whose JSON is broken must not hide the others.
        "payload": models.TextField(),
        "created_at": models.DateTimeField(),
        "duration_ms": models.FloatField(null=True),
    },
    frozenset({"id", "type", "family_hash", "payload", "created_at", "duration_ms"}),
)


class _Names(NamedTuple):
    """What of a payload is called otherwise here."""

    tags: Mapping[str, str]
    """Name of the tag by key."""
    fields: Mapping[str, str] = {}
    """Name of the field by key."""


TYPES: dict[str, _Names] = {
    "request": _Names(
        {"method": "method", "status_code": "status"},
        {"content_length": "response_bytes", "client_ip": "ip"},
    ),
    "query": _Names({"database": "alias"}),
    "log": _Names({"level": "level", "logger": "logger"}),
    "exception": _Names({"exception_type": "type"}, {"traceback_string": "traceback"}),
    "job": _Names({"name": "name", "status": "status", "queue": "queue"}),
    "command": _Names({"command": "command", "exit_code": "exit_code"}),
    "cache": _Names({"operation": "operation", "backend": "alias", "hit": "hit"}),
    "model": _Names({"model": "model", "action": "action"}),
    "http_client": _Names({"method": "method", "status_code": "status"}),
    "dump": _Names({}),
    "mail": _Names({}),
    "signal": _Names({"signal": "signal", "sender": "sender"}),
    "redis": _Names({"operation": "operation"}),
    "gate": _Names({"permission": "permission", "result": "result"}),
    "transaction": _Names({"using": "alias", "status": "status"}),
    "storage": _Names({"operation": "operation", "backend": "backend"}),
    "llm": _Names(
        {"provider": "provider", "operation": "operation", "model": "model", "status": "status"}
    ),
}
"""All types that there are in django-orbit 0.14."""

_CONTENTS = frozenset({"body", "html_body", "params", "content"})
"""Keys whose values are taken only if asked for: Tailrace's recorders take none of them."""


class OrbitEntries:
    """Makes events of entries."""

    def __init__(self, reader: Reader, masker: Masker, takes_contents: bool) -> None:
        """Take what is needed.

        Args:
            reader: Of the database.
            masker: Takes the secrets out.
            takes_contents: Whether bodies, contents of mails and of models, and SQL parameters
                are taken, masked.
        """
        self._reader = reader
        self._masker = masker
        self._takes_contents = takes_contents

    def parts(self) -> dict[str, Part]:
        """Return what becomes of the table."""
        return {"entries": Part(TABLE, self.draft)}

    def draft(self, row: Row) -> Draft:
        """Return the event of a row.

        Raises:
            BadRecord: it has no type, or no time.
        """
        kind = row["type"]
        if not kind:
            raise BadRecord("the entry has no type")
        payload = parse_json(row["payload"])
        tags, fields = self._parts_of(kind, payload)
        if row["duration_ms"] is not None:
            fields["duration_ms"] = float(row["duration_ms"])
        for column in ("fingerprint", "tags"):
            if text := (row.get(column) or "").strip(","):
                fields["labels" if column == "tags" else column] = text
        return Draft(
            kind,
            ns_from_datetime(self._reader.aware(row["created_at"])),
            tags,
            fields,
            row["family_hash"] or None,
            uuid.UUID(str(row["id"])).bytes,
        )

    def _parts_of(self, kind: str, payload: Any) -> tuple[dict[str, str], dict[str, Any]]:
        if not isinstance(payload, Mapping):
            return {}, fields_of(payload, self._masker)
        # A type of a later version has no names of ours; its fields are those of its payload.
        names = TYPES.get(kind, _Names({}))
        rest = dict(payload)
        tags = {}
        for key, name in names.tags.items():
            value = rest.get(key)
            if isinstance(value, str | int | float) and value != "":
                tags[name] = _text(value)
                del rest[key]
        if not self._takes_contents:
            rest = {key: value for key, value in rest.items() if key not in _CONTENTS}
        if kind == "query":
            return self._query(tags, rest)
        if kind == "exception":
            rest.pop("traceback", None)  # the frames that the text has, too
        if kind == "dump":
            rest["values"] = _named(rest.get("values"))
        fields = fields_of(rest, self._masker)
        return tags, {names.fields.get(name, name): value for name, value in fields.items()}

    def _query(
        self, tags: dict[str, str], rest: dict[str, Any]
    ) -> tuple[dict[str, str], dict[str, Any]]:
        sql, params, caller = (
            rest.pop("sql", ""),
            rest.pop("params", None),
            rest.pop("caller", None),
        )
        sql = sql[:RAW_SQL_MAX_CHARS] if isinstance(sql, str) else ""
        statement = describe(sql, connections[self._reader.alias].vendor)
        fields = fields_of(rest, self._masker)
        fields["sql"] = statement.sql
        if isinstance(params, list | dict):
            fields["params"] = shown_params(sql, params, self._masker)
        if isinstance(caller, Mapping) and caller:
            fields["caller"] = f"{caller.get('filename')}:{caller.get('lineno')}"
            fields["function"] = scalar(self._masker.mask_value(caller.get("function")))
        return {**tags, "operation": statement.operation, "status": "ok"}, fields


def _named(values: Any) -> Any:
    """Return dumped values by their names, which tell what is secret."""
    if not isinstance(values, list):
        return values
    named: dict[str, Any] = {}
    for number, item in enumerate(values):
        name = item.get("name") if isinstance(item, Mapping) else None
        if not isinstance(name, str):
            return values
        named[name if name not in named else f"{name}_{number}"] = item.get("value")
    return named


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
