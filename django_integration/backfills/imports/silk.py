"""django-silk's tables: requests with their responses, SQL queries, profiles.

A request's id is the trace of all that belongs to it. A response has no time of its own and
belongs to one request, so that the two are one event, as they are with Tailrace's recorder.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Count

from tailrace.pipeline.event import ns_from_datetime
from tailrace.pipeline.interchange import Draft, Identity
from tailrace.pipeline.masking import Masker

from .payload import parse_json, scalar
from .silk_sql import statement
from .tables import Part, PeerTable, Reader, Row

IDENTITY = Identity("django-silk")

REQUEST = PeerTable(
    "silk_request",
    {
        "id": models.CharField(max_length=36, primary_key=True),
        "path": models.CharField(max_length=190),
        "query_params": models.TextField(),
        "body": models.TextField(),
        "method": models.CharField(max_length=10),
        "start_time": models.DateTimeField(),
        "view_name": models.CharField(max_length=190, null=True),
        "end_time": models.DateTimeField(null=True),
        "time_taken": models.FloatField(null=True),
        "encoded_headers": models.TextField(),
        "meta_time": models.FloatField(null=True),
        "meta_num_queries": models.IntegerField(null=True),
        "meta_time_spent_queries": models.FloatField(null=True),
        "pyprofile": models.TextField(),
        "num_sql_queries": models.IntegerField(),
    },
    frozenset({"id", "path", "method", "start_time", "end_time", "time_taken"}),
)
RESPONSE = PeerTable(
    "silk_response",
    {
        "id": models.CharField(max_length=36, primary_key=True),
        "request_id": models.CharField(max_length=36),
        "status_code": models.IntegerField(),
        "raw_body": models.TextField(),
        "body": models.TextField(),
        "encoded_headers": models.TextField(),
    },
    frozenset({"id", "request_id", "status_code"}),
)
QUERY = PeerTable(
    "silk_sqlquery",
    {
        "id": models.BigAutoField(primary_key=True),
        "query": models.TextField(),
        "start_time": models.DateTimeField(null=True),
        "end_time": models.DateTimeField(null=True),
        "time_taken": models.FloatField(null=True),
        "request_id": models.CharField(max_length=36, null=True),
        "traceback": models.TextField(),
    },
    frozenset({"id", "query", "start_time", "time_taken", "request_id"}),
)
PROFILE = PeerTable(
    "silk_profile",
    {
        "id": models.BigAutoField(primary_key=True),
        "name": models.CharField(max_length=300),
        "start_time": models.DateTimeField(),
        "end_time": models.DateTimeField(null=True),
        "time_taken": models.FloatField(null=True),
        "request_id": models.CharField(max_length=36, null=True),
        "file_path": models.CharField(max_length=300),
        "line_num": models.IntegerField(null=True),
        "end_line_num": models.IntegerField(null=True),
        "func_name": models.CharField(max_length=300),
        "exception_raised": models.BooleanField(),
        "dynamic": models.BooleanField(),
    },
    frozenset({"id", "name", "start_time", "time_taken", "request_id"}),
)
PROFILE_QUERIES = PeerTable(
    "silk_profile_queries",
    {"id": models.BigAutoField(primary_key=True), "profile_id": models.BigIntegerField()},
    frozenset({"id", "profile_id"}),
)


class SilkRows:
    """Makes events of rows."""

    def __init__(self, reader: Reader, masker: Masker, takes_contents: bool) -> None:
        """Take what is needed.

        Args:
            reader: Of the database.
            masker: Takes the secrets out.
            takes_contents: Whether bodies are taken, masked.
        """
        self._reader = reader
        self._masker = masker
        self._takes_contents = takes_contents

    def parts(self) -> dict[str, Part]:
        """Return what becomes of each table."""
        return {
            "requests": Part(REQUEST, self.request, self._add_responses),
            "queries": Part(QUERY, self.query, self._add_request_times),
            "profiles": Part(PROFILE, self.profile, self._add_query_counts),
        }

    def request(self, row: Row) -> Draft:
        """Return the event of a request and its response.

        Raises:
            BadRecord: it has no time.
        """
        response: Mapping[str, Any] = row.get("response") or {}
        tags = {"method": row["method"], "view": row.get("view_name") or None}
        fields = {
            "duration_ms": _duration_ms(row),
            "path": self._masker.mask_text(row["path"]),
            "query_params": self._json(row.get("query_params")),
            "headers": self._json(row.get("encoded_headers")),
            "queries": row.get("num_sql_queries"),
            "meta_time_ms": row.get("meta_time"),
            "meta_queries": row.get("meta_num_queries"),
            "meta_query_time_ms": row.get("meta_time_spent_queries"),
            "pyprofile": row.get("pyprofile") or None,
            "body": self._content(row),
        }
        if response:
            tags["status"] = str(response["status_code"])
            fields["response_headers"] = self._json(response.get("encoded_headers"))
            fields["response_bytes"] = _base64_bytes(response.get("raw_body"))
            fields["response_body"] = self._content(response)
        return self._draft("request", row, row["id"], row["start_time"], tags, fields)

    def query(self, row: Row) -> Draft:
        """Return the event of a query.

        Raises:
            BadRecord: neither it nor its request has a time.
        """
        operation, sql = statement(row["query"] or "")
        fields = {
            "duration_ms": _duration_ms(row),
            "sql": sql,
            "traceback": self._masker.mask_text(row.get("traceback") or "") or None,
        }
        started = row["start_time"] or row.get("request_start")
        tags = {"operation": operation, "status": "ok"}
        return self._draft("query", row, row["request_id"], started, tags, fields)

    def profile(self, row: Row) -> Draft:
        """Return the event of a profile.

        Raises:
            BadRecord: it has no time.
        """
        fields = {
            "duration_ms": _duration_ms(row),
            "file": row.get("file_path") or None,
            "line": row.get("line_num"),
            "end_line": row.get("end_line_num"),
            "function": row.get("func_name") or None,
            "dynamic": row.get("dynamic"),
            "queries": row.get("queries", 0),
        }
        tags = {"name": row["name"], "status": "error" if row.get("exception_raised") else "ok"}
        return self._draft("profile", row, row["request_id"], row["start_time"], tags, fields)

    def _draft(
        self,
        measurement: str,
        row: Row,
        request_id: str | None,
        started: Any,
        tags: Mapping[str, str | None],
        fields: Mapping[str, Any],
    ) -> Draft:
        time_ns = ns_from_datetime(self._reader.aware(started))
        kept = {name: value for name, value in fields.items() if value is not None}
        trace_id = _hex(request_id)
        # A number is one database's own; with its request and time it is one row of all.
        uid = IDENTITY.uid(measurement, str(row["id"]), trace_id or "", time_ns)
        labels = {name: value for name, value in tags.items() if value}
        return Draft(measurement, time_ns, labels, kept, trace_id, uid)

    def _add_responses(self, rows: Sequence[Row], reader: Reader) -> None:
        present = reader.columns_of(RESPONSE)
        if not present:
            return
        by_request = {row["id"]: row for row in rows}
        found = reader.rows(RESPONSE).filter(request_id__in=list(by_request))
        for response in found.values(*present):
            by_request[response["request_id"]]["response"] = response

    def _add_request_times(self, rows: Sequence[Row], reader: Reader) -> None:
        lacking = [row for row in rows if row["start_time"] is None and row["request_id"]]
        if lacking:
            requests = reader.rows(REQUEST).filter(id__in={row["request_id"] for row in lacking})
            times = dict(requests.values_list("id", "start_time"))
            for row in lacking:
                row["request_start"] = times.get(row["request_id"])

    def _add_query_counts(self, rows: Sequence[Row], reader: Reader) -> None:
        if not reader.columns_of(PROFILE_QUERIES):
            return
        ids = [row["id"] for row in rows]
        links = reader.rows(PROFILE_QUERIES).filter(profile_id__in=ids).order_by()
        counts = dict(links.values_list("profile_id").annotate(Count("id")))
        for row in rows:
            row["queries"] = counts.get(row["id"], 0)

    def _json(self, text: Any) -> Any:
        return scalar(self._masker.mask_value(parse_json(text))) if text else None

    def _content(self, row: Mapping[str, Any]) -> Any:
        return self._json(row.get("body")) if self._takes_contents else None


def _duration_ms(row: Row) -> float | None:
    taken, start, end = row["time_taken"], row["start_time"], row.get("end_time")
    if taken is not None:
        return float(taken)
    if isinstance(start, datetime) and isinstance(end, datetime):
        return (end - start).total_seconds() * 1000
    return None


def _hex(request_id: str | None) -> str | None:
    if not request_id:
        return None
    try:
        return uuid.UUID(request_id).hex
    except ValueError:
        return request_id


def _base64_bytes(text: str | None) -> int | None:
    return len(text) * 3 // 4 - text[-2:].count("=") if text is not None else None
