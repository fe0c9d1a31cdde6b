"""Events in InfluxDB 2.

::

    TAILRACE = {"BACKENDS": {"default": {
        "BACKEND": "tailrace.backends.influxdb.InfluxDBBackend",
        "OPTIONS": {"URL": "http://localhost:8086", "TOKEN": token, "ORG": "acme", "BUCKET": "web"},
    }}}

How an event lies there is in ``influx/layout.py``, which point it is in ``influx/identity.py``, and
what the server's answers mean in ``influx/answers.py``. The books (checkpoints, marks, ledger, dead
letters) are on a Django database: points are written first, the books after, and writing a point
again changes nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from tailrace.pipeline.backfill.contracts import Waiting
from tailrace.pipeline.checkpoint import Checkpoint
from tailrace.pipeline.errors import BackendError, ConfigurationError
from tailrace.pipeline.event import Event
from tailrace.pipeline.parked import LIST_LETTERS, LetterCount, LetterSelection, ListedLetter

from .backfill.selection import Selection
from .base import Features, Transaction
from .influx.answers import Missing
from .influx.books import InfluxBooks, InfluxTransaction
from .influx.client import InfluxApi, Server
from .influx.direct import DirectBooks, DirectProducer
from .influx.identity import Identity
from .influx.reading.deletion import END_OF_INFLUX_1_NS, FIRST_OF_INFLUX_1_NS, rfc3339
from .influx.reading.identities import stored_identities, stored_ids
from .influx.rollups import InfluxRollups
from .influx.server import Buckets, Capabilities, probe
from .influx.sink import InfluxSink
from .influx.writing import InfluxWriter
from .reading.query import Window
from .readings import reading_event

_NUMBER = (int, float)
_FLUX_HEADERS = {"Content-Type": "application/json", "Accept": "application/csv"}
_DIALECT = {"header": True, "annotations": ["datatype", "group", "default"]}
_RETENTION_MIN_SECONDS = 3600


class InfluxDBBackend(InfluxRollups):
    """Stores events in one bucket of an InfluxDB.

    ``OPTIONS``:

    - ``URL``, ``TOKEN``, ``ORG``, ``BUCKET``: where to. For InfluxDB 1.8 and later, the token is
      ``user:password`` and the bucket ``database/policy``.
    - ``BOOKS_ALIAS``: the Django database for the books; ``"default"`` without. Tailrace's
      tables must be there (``manage.py migrate tailrace``).
    - ``TIMEOUT``: seconds a request may take; 10 without.
    - ``VERIFY_SSL``, ``SSL_CA_CERT``, ``CERT_FILE``, ``CERT_KEY_FILE``: TLS.
    - ``TAG_VALUES_MAX``: how many values a tag may have; 10,000 without. Devices are exempt.
    - ``LINES_MAX``: how many points a request has at most; 5,000 without.
    - ``GZIP_LEVEL``: 1 (without) to 9; 0 sends requests as they are. With ``isal``, levels from 3
      on are one.
    - ``RETENTION_SECONDS``: how long the bucket keeps points, 0 for ever. Without it, that is
      what ``TAILRACE["RETENTION"]`` says, or else the bucket's own setting.
    - ``ROLLUP_TASKS``: whether rollups are made tasks of InfluxDB; true without.
    """

    features: ClassVar[Features] = Features(transactional_checkpoint=False)
    batch_factor: ClassVar[int] = 3
    options: ClassVar = {
        **dict.fromkeys(("URL", "TOKEN", "ORG", "BUCKET", "BOOKS_ALIAS"), str),
        **dict.fromkeys(("SSL_CA_CERT", "CERT_FILE", "CERT_KEY_FILE"), str),
        **dict.fromkeys(("TAG_VALUES_MAX", "LINES_MAX", "GZIP_LEVEL", "RETENTION_SECONDS"), int),
        "TIMEOUT": _NUMBER,
        "VERIFY_SSL": bool,
        "ROLLUP_TASKS": bool,
    }

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        self._check_options()
        own = self.given_options
        self.bucket: str = own["BUCKET"]
        self.api = InfluxApi(
            Server(
                url=own["URL"],
                token=own.get("TOKEN", ""),
                org=own.get("ORG", ""),
                timeout_seconds=float(own.get("TIMEOUT", 10.0)),
                verify_ssl=own.get("VERIFY_SSL", True),
                ssl_ca_cert=own.get("SSL_CA_CERT"),
                cert_file=own.get("CERT_FILE"),
                cert_key_file=own.get("CERT_KEY_FILE"),
            )
        )
        self._retention_seconds: int | None = own.get("RETENTION_SECONDS")
        self._books = InfluxBooks(alias, own.get("BOOKS_ALIAS", "default"))
        self._writer = InfluxWriter(
            alias,
            self.api,
            {"org": own.get("ORG", ""), "bucket": self.bucket},
            values_max=own.get("TAG_VALUES_MAX", 10_000),
            lines_max=own.get("LINES_MAX", 5_000),
            gzip_level=own.get("GZIP_LEVEL", 1),
            look_up=self._look_up,
        )
        self._direct = DirectProducer()
        self._direct_lock = threading.Lock()
        self._capabilities: Capabilities | None = None

    @property
    def books_alias(self) -> str:
        """The alias of the Django database that has the books."""
        return self._books.get_db_alias()

    def setup(self) -> None:
        """Check the books' alias; connect to nothing.

        Raises:
            ImproperlyConfigured: there is no such alias; the message lists those there are.
        """
        self._books.setup()

    def close(self) -> None:
        """Close connections; they open again when they are needed."""
        self.api.close()
        self._books.close()

    # --- the server

    def capabilities(self) -> Capabilities:
        """Return what the server is and can do; it is asked once a process.

        Raises:
            TransientBackendError, BackendMisconfigured: it cannot be asked.
        """
        if self._capabilities is None:
            self._capabilities = probe(self.api)
        return self._capabilities

    def ensure_bucket(self, retention_seconds: int | None = None) -> bool:
        """Make the bucket if there is none, and set how long it keeps points.

        Args:
            retention_seconds: 0 for ever; ``OPTIONS["RETENTION_SECONDS"]`` without.

        Returns:
            Whether there was anything to do.

        Raises:
            NotSupportedByBackend: this server lets nobody do that through its API.
            TransientBackendError, BackendMisconfigured: see :class:`BaseBackend`.
        """
        self.capabilities().require("buckets")
        seconds = self._retention_seconds if retention_seconds is None else retention_seconds
        return Buckets(self.api, self.api.server.org).ensure(self.bucket, seconds)

    def backfill_sink(self, selection: Selection | None, wait: Waiting | None) -> InfluxSink:
        """Return where copies and imports go."""
        return InfluxSink(self, selection, wait)

    def maintain(self) -> str:
        """Keep the books small, and the bucket's retention as the settings say."""
        done = f"{self._books.maintain()}, {self._books.forget_places()} slots forgotten"
        if self._retention_seconds is None or not self.capabilities().buckets:
            return done
        return f"{done}, bucket {'changed' if self.ensure_bucket() else 'as it should be'}"

    def is_bucket_missing(self) -> bool:
        """Return whether there is no bucket, as far as this server tells."""
        can = self.capabilities()
        return can.buckets and Buckets(self.api, self.api.server.org).find(self.bucket) is None

    def health_check(self) -> dict[str, str]:
        version = ""
        started = time.perf_counter()
        try:
            self.setup()
            found = self.capabilities()
            version = f"{found.product} {found.version}".strip()
            self.api.call("GET", "/health")
            if self.is_bucket_missing():
                raise Missing(f"InfluxDB has no bucket {self.bucket!r}; call ensure_bucket()")
            self._books.read_checkpoint(0)
        except (BackendError, ImproperlyConfigured) as error:
            return {"status": "fail", "message": str(error), "version": version}
        took_ms = (time.perf_counter() - started) * 1000
        message = f"{self.api.server.shown} answers, bucket {self.bucket!r} ({took_ms:.1f} ms)"
        return {"status": "pass", "message": message, "version": version}

    # --- writing

    def read_checkpoint(self, shard: int) -> Checkpoint | None:
        return self._books.read_checkpoint(shard)

    def create_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._books.create_checkpoint(checkpoint)

    def transaction(self, shard: int) -> AbstractContextManager[Transaction]:
        return self._transaction(shard)

    @contextmanager
    def _transaction(self, shard: int) -> Iterator[Transaction]:
        self.api.check_wait()  # before anything is locked
        with self._books.transaction(shard) as tx:
            assert isinstance(tx, InfluxTransaction), "the books make these"
            tx.writer = self
            yield tx

    def write(self, tx: InfluxTransaction, events: Sequence[Event]) -> None:
        """Write events of a transaction; a bucket that is missing is made."""
        try:
            self._writer.write(tx, events)
        except Missing:
            if not self.ensure_bucket():
                raise
            self._writer.write(tx, events)

    def store_reading(
        self, reading_model: type, device: Any, timestamp: datetime, data: Mapping[str, Any]
    ) -> None:
        event = reading_event(reading_model, device, timestamp, data)
        event.id = self._direct.next_id()
        try:
            with self._direct_lock, self._books.outside() as objects:
                books = DirectBooks(self.alias, objects, self._direct)
                lines = self._writer.lines(books, [event])
        except BaseException:
            self._writer.forget_names()  # those that were new are not in the books now
            raise
        self._writer.send(lines, [event])

    def holds(self, event: Event) -> bool:
        """Return whether the bucket has this very event."""
        return event.id in self._look_up([event])

    def _look_up(self, events: Sequence[Event]) -> Mapping[bytes, Identity]:
        if not self.capabilities().queries:
            return {}
        return stored_identities(self._ask, self.bucket, events)

    def stored_ids(
        self, measurement: str, start: datetime | None, end: datetime | None
    ) -> Iterable[bytes]:
        """Return the ids of a measurement's events from one time to another."""
        return stored_ids(self._ask, self.bucket, measurement, Window(start, end))

    # --- the books

    def ledger_totals(
        self, start: int | None = None, end: int | None = None
    ) -> Iterable[tuple[str, str, int]]:
        return self._books.ledger_totals(start, end)

    def producer_totals(self) -> dict[str, int]:
        return self._books.producer_totals()

    def dead_letters(
        self, selection: LetterSelection, after_id: int = 0, limit: int = LIST_LETTERS
    ) -> Sequence[ListedLetter]:
        return self._books.dead_letters(selection, after_id, limit)

    def dead_letter_counts(self) -> Sequence[LetterCount]:
        return self._books.dead_letter_counts()

    # --- what reading needs

    def _bucket_read(self) -> str:
        return self.bucket

    def _flux(self, text: str) -> Iterable[str]:
        self.capabilities().require("queries")
        query = json.dumps({"query": text, "type": "flux", "dialect": _DIALECT}).encode()
        return self.api.lines("/api/v2/query", {"org": self.api.server.org}, query, _FLUX_HEADERS)

    def _delete_points(self, start_ns: int, end_ns: int, predicate: str, bucket: str = "") -> None:
        """Delete points from one time to another, before which it ends.

        Without a bucket, from that of the events.
        """
        can = self.capabilities()
        can.require("deletes")
        body = {
            "start": rfc3339(start_ns),
            # A point's last three digits are its identity, so the last instant before the end is
            # a nanosecond away.
            "stop": rfc3339(end_ns - 1),
            "predicate": predicate,
        }
        if not can.deletes_stop:
            body["start"] = rfc3339(max(start_ns, FIRST_OF_INFLUX_1_NS))
            body["stop"] = rfc3339(min(end_ns, END_OF_INFLUX_1_NS))
        parameters = {"org": self.api.server.org, "bucket": bucket or self.bucket}
        headers = {"Content-Type": "application/json"}
        self.api.call("POST", "/api/v2/delete", parameters, json.dumps(body).encode(), headers)

    def _check_options(self) -> None:
        where = f"TAILRACE['BACKENDS'][{self.alias!r}]['OPTIONS']"
        for name in ("URL", "BUCKET"):
            if not self.given_options.get(name):
                raise ConfigurationError(f"{where} has no {name!r}.")
        if not self.given_options["URL"].startswith(("http://", "https://")):
            raise ConfigurationError(f"{where}['URL'] must start with http:// or https://.")
        bounds = {
            "TAG_VALUES_MAX": (1, 10**6),
            "LINES_MAX": (1, 100_000),
            "GZIP_LEVEL": (0, 9),
            "TIMEOUT": (0.1, 600),
        }
        for name, (low, high) in bounds.items():
            value = self.given_options.get(name, low)
            if isinstance(value, bool) or not low <= value <= high:
                raise ConfigurationError(f"{where}[{name!r}] is {value!r}; write {low} to {high}.")
        seconds = self.given_options.get("RETENTION_SECONDS", 0)
        if seconds and (isinstance(seconds, bool) or seconds < _RETENTION_MIN_SECONDS):
            raise ConfigurationError(
                f"{where}['RETENTION_SECONDS'] is {seconds!r}; write 0 for ever, or at least "
                f"{_RETENTION_MIN_SECONDS}, which is InfluxDB's least."
            )
