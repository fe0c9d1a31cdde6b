"""The settings, parsed once into a frozen, typed object.

A setting's name in ``TAILRACE`` is the attribute's name in capitals. What is wrong becomes a
:class:`Problem`, which the system checks report, and its default counts instead, so that a
typing error in a telemetry setting never stops the host.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import getpass
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from .retention import RetentionConfig, policies_of
from .rollup import RollupConfig, rollups_of

DEFAULT_BACKEND = "tailrace.backends.database.DatabaseBackend"

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Bytes = Annotated[int, msgspec.Meta(ge=2**16)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]

Overflow = Literal["drop_oldest", "drop_newest", "block"]


class Problem(NamedTuple):
    """Something wrong in the settings."""

    kind: Literal["unknown", "invalid"]
    setting: str
    message: str
    hint: str


class BackendConfig(msgspec.Struct, frozen=True, rename="upper", forbid_unknown_fields=True):
    """One entry of ``BACKENDS``."""

    backend: str = DEFAULT_BACKEND
    """Dotted path of the backend's class."""
    options: dict[str, Any] = {}
    """What the class takes; see its documentation."""
    measurements: tuple[str, ...] = ("*",)
    """Which measurements it stores: names or patterns (``job*``)."""
    exclude: tuple[str, ...] = ()
    """Which of these it leaves out."""

    def accepts(self, measurement: str) -> bool:
        """Return whether this backend stores ``measurement``."""
        return _matches(measurement, self.measurements, self.exclude)


@functools.lru_cache(maxsize=4096)
def _matches(measurement: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    def any_of(patterns: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(measurement, pattern) for pattern in patterns)

    return any_of(include) and not any_of(exclude)


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """All settings of Tailrace. ``docs/settings.md`` explains each."""

    enabled: bool = True
    """Off: nothing is recorded and no thread is started."""
    redis_url: str = "redis://localhost:6379/0"
    """``redis://``, ``rediss://`` or ``unix://``."""
    redis_cluster: bool = False
    """Whether ``redis_url`` names a node of a Redis Cluster."""
    redis_timeout_seconds: Seconds = 0.05
    """For connecting and for each answer, in the processes that record."""
    worker_redis_timeout_seconds: Seconds = 5.0
    """The same for drains and commands, which can wait."""
    key_prefix: Annotated[str, msgspec.Meta(pattern=r"^[\w.:-]{1,64}$")] = "tailrace"
    """Starts every Redis key; give each site its own where several share a Redis."""
    shards: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 4
    """Streams that the events are spread over; as many drains can run at once."""
    backends: dict[str, BackendConfig] = msgspec.field(
        default_factory=lambda: {"default": BackendConfig()}
    )
    """Where events are stored, by alias."""
    recorders: dict[str, bool | dict[str, Any]] = {}
    """Options by recorder, or ``False`` to turn one off; a dotted path adds one."""
    sampling: dict[str, Rate] = {}
    """Share of events kept, by measurement or pattern; all where none matches."""
    tags: dict[str, str] = {}
    """Tags for every event of this process, such as the environment or release."""
    mask: list[str] = []
    """More words that mark a name as secret, beside the built-in ones."""
    ignore_paths: list[str] = []
    """Patterns of request paths that are not recorded (``/health*``)."""

    overflow: Overflow = "drop_oldest"
    """What happens when the buffer, the spool or our share of Redis is full."""
    block_seconds: Seconds = 1.0
    """With ``block``: how long ``record()`` waits for room before it drops the event."""
    buffer_max_events: Count = 20_000
    """Events in a process's memory before ``overflow`` applies."""
    buffer_max_bytes: Bytes = 64 * 2**20
    """Memory for them; with large events the buffer holds fewer."""
    frame_max_events: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    """Events that travel together."""
    frame_max_bytes: Annotated[int, msgspec.Meta(ge=2**14, le=8 * 2**20)] = 2**20
    """Size of a frame before compression."""
    flush_interval_seconds: Seconds = 0.25
    """How long an event waits in memory at most."""
    exit_deadline_seconds: Seconds = 5.0
    """Time to send or spool what is left when the process ends."""
    stream_max_bytes: Bytes = 512 * 2**20
    """Memory of Redis for all streams together."""
    spool_dir: str = ""
    """Where frames wait while Redis is down; empty: a folder of the system's temporary one."""
    spool_max_bytes: Bytes = 256 * 2**20
    """Disk for the spool, for each process."""
    exchange_dirs: list[str] = []
    """Folders that backfills may import files from and export them to; none without."""

    string_max_chars: Annotated[int, msgspec.Meta(ge=16, le=1_000_000)] = 16_384
    """Longer field values are cut, and counted."""
    tag_max_chars: Annotated[int, msgspec.Meta(ge=16, le=1_000)] = 200
    """Longer tag values are cut, and counted."""
    tag_max_values: Count = 2_000
    """Distinct values of one tag in one process; further ones become ``__overflow__``."""
    max_fields: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100
    """Fields, and tags, that one event may have."""

    drain_interval_seconds: Seconds = 1.0
    """How often beat looks for events to drain."""
    drain_batch_events: Count = 10_000
    """Events in one transaction."""
    drain_tick_seconds: Seconds = 20.0
    """How long one drain task works before it makes room for other tasks."""
    maintenance: dict[Literal["cleanup", "vacuum", "health_check"], Seconds] = msgspec.field(
        default_factory=lambda: {"cleanup": 3600.0}
    )
    """Seconds between the runs of each part of ``tailrace_maintain`` that beat does."""
    rollups: dict[str, RollupConfig | bool] = {}
    """Continuous aggregates by name; ``False`` turns a built-in one off."""
    retention: dict[str, RetentionConfig | str | None] = {}
    """How long to keep what, by measurement, model of readings, ``rollup:<width>`` or ``*``."""
    retention_interval_seconds: Seconds = 600.0
    """How often beat applies it."""
    queue: str | None = None
    """Celery queue of Tailrace's tasks; by default the host's default queue."""
    backfill_queue: str | None = None
    """Celery queue of the steps of backfills; by default that of the other tasks, which then
    take turns with them every two seconds."""

    @property
    def spool_path(self) -> Path:
        """The spool's folder: one for each user, as the files are private, and each stream.

        Processes send what others have left there, so sites that share a machine, but not
        their Redis and prefix, must not share the folder.
        """
        stream = hashlib.blake2b(
            f"{self.redis_url} {self.key_prefix}".encode(), digest_size=6
        ).hexdigest()
        if self.spool_dir:
            return Path(self.spool_dir) / stream
        return Path(tempfile.gettempdir()) / f"tailrace-{_user()}-{stream}"

    def sampling_rate(self, measurement: str) -> float:
        """Return the share of events of ``measurement`` to keep: 0.0 to 1.0."""
        if measurement in self.sampling:
            return self.sampling[measurement]
        for pattern, rate in self.sampling.items():
            if fnmatch.fnmatchcase(measurement, pattern):
                return rate
        return 1.0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container user without a name
        return str(os.getuid())


def parse(settings: Mapping[str, Any]) -> tuple[Config, list[Problem]]:
    """Read the ``TAILRACE`` dict.

    Args:
        settings: What the host wrote.

    Returns:
        The configuration, with the default wherever a setting is wrong, and what is wrong.
    """
    types = {field.encode_name: field for field in msgspec.structs.fields(Config)}
    good: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in settings.items():
        field = types.get(name)
        if field is None:
            problems.append(_unknown(name, list(types)))
            continue
        try:
            good[field.name] = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            problems.append(_invalid(name, value, error))
    config = Config(**good)
    return config, problems + _contradictions(config)


def _unknown(name: str, known: list[str]) -> Problem:
    close = difflib.get_close_matches(str(name).upper(), known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known settings: {', '.join(known)}."
    return Problem("unknown", str(name), f"TAILRACE[{name!r}] is not a setting.", hint)


def _invalid(name: str, value: object, error: msgspec.ValidationError) -> Problem:
    message = str(error)
    close = difflib.get_close_matches(
        message.split("`")[1] if "unknown field" in message else "",
        ["BACKEND", "OPTIONS", "MEASUREMENTS", "EXCLUDE"],
        n=1,
    )
    hint = f"Did you mean {close[0]!r}?" if close else "See docs/settings.md for what it takes."
    shown = "" if "URL" in name or name == "BACKENDS" else f" It is {value!r:.80}."
    return Problem("invalid", name, f"TAILRACE[{name!r}]: {message}.{shown}", hint)


def _contradictions(config: Config) -> list[Problem]:
    problems = []
    schemes = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
    if not config.redis_url.startswith(schemes):
        problems.append(
            Problem(
                "invalid",
                "REDIS_URL",
                "TAILRACE['REDIS_URL'] has no scheme that is known.",
                "Write redis://host:6379/0, rediss://... for TLS, or unix:///path/to/socket.",
            )
        )
    if not config.backends:
        problems.append(
            Problem(
                "invalid",
                "BACKENDS",
                "TAILRACE['BACKENDS'] is empty, so nothing would be stored.",
                "Leave it out for the default database, or set ENABLED to False.",
            )
        )
    rollups, wrong_rollups = rollups_of(config.rollups)
    _, wrong_policies = policies_of(config.retention, rollups)
    for name, messages in (("ROLLUPS", wrong_rollups), ("RETENTION", wrong_policies)):
        for message in messages:
            hint = f"See docs/{name.lower()}.md; what cannot be read does not count until then."
            # A policy's message begins with its key.
            where = f"TAILRACE['{name}']" + ("" if message.startswith("[") else ": ")
            problems.append(Problem("invalid", name, f"{where}{message}.", hint))
    return problems
