"""What the server behind an address is, what it can do, and its buckets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tailrace.pipeline.errors import BackendMisconfigured, NotSupportedByBackend

from .answers import Malformed, Missing, PartlyRefused
from .client import InfluxApi

_BUCKETS = "/api/v2/buckets"
_TASKS = "/api/v2/tasks"
_JSON = {"Content-Type": "application/json"}
_DAY_SECONDS = 86_400
_GENERATION = re.compile(r"v?(\d+)\.")
_MISSING = {
    "queries": "be read in Flux",
    "deletes": "delete points",
    "buckets": "have buckets made or their retention set",
    "tasks": "run downsampling tasks",
}


@dataclass(frozen=True)
class Capabilities:
    """What a server can do beside taking line protocol at ``/api/v2/write``."""

    product: str
    """``InfluxDB 2``, ``InfluxDB 1``, ``VictoriaMetrics`` or ``unknown``."""
    version: str
    queries: bool = False
    """Does it answer Flux at ``/api/v2/query``?"""
    deletes: bool = False
    buckets: bool = False
    """Can buckets be listed, made, and given a retention?"""
    tasks: bool = False
    deletes_stop: bool = True
    """Does a delete take the instant at which it stops, too?"""
    strings: bool = True
    """Does it keep text in fields, event ids among it?"""

    def require(self, what: str) -> None:
        """Refuse what the server cannot do.

        Args:
            what: ``queries``, ``deletes``, ``buckets`` or ``tasks``.

        Raises:
            NotSupportedByBackend: it cannot; says which server can.
        """
        if not getattr(self, what):
            name = f"{self.product} {self.version}".strip()
            raise NotSupportedByBackend(
                f"{name} takes writes, but cannot {_MISSING[what]} through "
                "the API of InfluxDB 2; use InfluxDB 2.7, or what the server has of its own"
            )


def probe(api: InfluxApi) -> Capabilities:
    """Ask a server what it is.

    Raises:
        TransientBackendError: it does not answer.
        BackendMisconfigured: it is none, or knows us not.
    """
    version = _version(api)
    if version is None:
        return _victoria(api)
    buckets = _has(api, _BUCKETS)
    generation = _GENERATION.match(version)  # which a server that somebody built need not tell
    if buckets and (generation[1] == "2" if generation else _has_tasks(api)):
        return Capabilities(
            "InfluxDB 2", version, queries=True, deletes=True, buckets=True, tasks=True
        )
    # InfluxDB 1.8 and later speak a part of the API, and 1.12 a larger one. Buckets are called
    # "database/policy".
    return Capabilities(
        f"InfluxDB {generation[1] if generation else 1}",
        version,
        queries=_answers_flux(api),
        deletes=buckets,
        buckets=buckets,
        deletes_stop=False,
    )


def _version(api: InfluxApi) -> str | None:
    try:
        return api.call("GET", "/ping").headers.get("X-Influxdb-Version")
    except (Missing, Malformed):
        return None


def _victoria(api: InfluxApi) -> Capabilities:
    try:
        text = api.call("GET", "/metrics").body.decode(errors="replace")
    except (BackendMisconfigured, Malformed):
        return Capabilities("unknown", "")
    _, _, rest = text.partition('vm_app_version{version="')
    if not rest:
        return Capabilities("unknown", "")
    # It keeps numbers only: each field is a metric, and texts are left out.
    return Capabilities("VictoriaMetrics", rest.partition('"')[0], strings=False)


def _has(api: InfluxApi, path: str) -> bool:
    try:
        api.call("GET", path, {"limit": "1"})
    except Missing:
        return False
    return True


def _has_tasks(api: InfluxApi) -> bool:
    """Return whether a server has tasks, which is whether it is an InfluxDB 2."""
    try:
        return _has(api, _TASKS)
    except BackendMisconfigured:
        return True  # and the token may not see them


def _answers_flux(api: InfluxApi) -> bool:
    query = json.dumps({"query": "buckets()", "type": "flux"}).encode()
    try:
        api.call("POST", "/api/v2/query", None, query, _JSON)
    except (BackendMisconfigured, Malformed):
        return False
    return True


class Buckets:
    """The buckets of one organisation."""

    def __init__(self, api: InfluxApi, org: str) -> None:
        """Take the server and the organisation's name."""
        self._api = api
        self._org = org

    def find(self, name: str) -> Mapping[str, Any] | None:
        """Return what the server says of a bucket; ``None`` if there is no such bucket."""
        try:
            answer = self._api.call("GET", _BUCKETS, {"org": self._org, "name": name})
        except Missing:
            return None
        found = answer.json().get("buckets") or []
        return next((bucket for bucket in found if bucket.get("name") == name), None)

    def ensure(self, name: str, retention_seconds: int | None) -> bool:
        """Make a bucket if there is none, and set how long it keeps points.

        Args:
            name: The bucket's.
            retention_seconds: 0 for ever; ``None`` leaves what is set.

        Returns:
            Whether there was anything to do.

        Raises:
            BackendMisconfigured: the token may not do that, or there is no such organisation.
        """
        bucket = self.find(name)
        if bucket is None:
            rules = _rules(retention_seconds or 0)
            self._call("POST", _BUCKETS, {**self._owner(), "name": name, "retentionRules": rules})
            return True
        if retention_seconds is None or _rule(bucket, "everySeconds") == retention_seconds:
            return False
        rules = _rules(retention_seconds)
        shard_seconds = _shard_seconds(retention_seconds)
        if shard_seconds < _rule(bucket, "shardGroupDurationSeconds"):
            # A shard goes as a whole; one that is longer than points are to stay, is refused.
            rules[0]["shardGroupDurationSeconds"] = shard_seconds
        # The id of a bucket of InfluxDB 1 is its name, which has a slash.
        path = f"{_BUCKETS}/{quote(bucket['id'], safe='')}"
        self._call("PATCH", path, {"retentionRules": rules})
        return True

    def _owner(self) -> dict[str, str]:
        try:
            answer = self._api.call("GET", "/api/v2/orgs", {"org": self._org})
        except Missing:
            if _has_tasks(self._api):
                raise  # no such organisation
            return {}  # InfluxDB 1 has none at all
        found = answer.json().get("orgs") or []
        if not found:
            raise BackendMisconfigured(
                f"InfluxDB at {self._api.server.shown} has no organisation {self._org!r}, or the "
                "token may not see it; check OPTIONS['ORG']"
            )
        return {"orgID": str(found[0]["id"])}

    def _call(self, method: str, path: str, body: Any) -> None:
        try:
            self._api.call(method, path, None, json.dumps(body).encode(), _JSON)
        except (Malformed, PartlyRefused) as error:
            raise BackendMisconfigured(str(error)) from error


def _rules(seconds: int) -> list[dict[str, Any]]:
    return [{"type": "expire", "everySeconds": seconds}]


def _shard_seconds(retention_seconds: int) -> int:
    """Return the length of shards that InfluxDB gives a bucket that keeps points for so long."""
    if retention_seconds == 0 or retention_seconds >= 180 * _DAY_SECONDS:
        return 7 * _DAY_SECONDS
    return _DAY_SECONDS if retention_seconds >= 2 * _DAY_SECONDS else _DAY_SECONDS // 24


def _rule(bucket: Mapping[str, Any], name: str) -> int:
    rules = bucket.get("retentionRules") or []
    return next((int(rule.get(name, 0)) for rule in rules), 0)
