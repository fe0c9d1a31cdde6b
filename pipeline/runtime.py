"""What a drain, a task or a command needs, put together for this process.

The core does not know where settings and backends come from; the Django side installs both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from .chores import Chore
from .codec import decode_header
from .config import Config
from .context import suppress_recording
from .drain import Drain, DrainResult
from .errors import ConfigurationError, FrameError
from .ledger import Balance
from .stream import START, Stream, id_seconds

_IN_FLIGHT_READ = 256

BackendOf = Callable[[str], Any]


class ShardStatus(NamedTuple):
    """One shard, as one backend sees it."""

    alias: str
    shard: int
    depth: int
    """Entries that this backend has not committed."""
    in_flight: dict[str, int]
    """Events in them, by measurement."""
    lag_seconds: float
    """Age of the oldest such entry."""
    position: str
    is_draining: bool
    error: str = ""
    """Why the backend cannot be asked, if it cannot."""


class Runtime:
    """The stream and the drains of this process."""

    def __init__(self, config: Config, backend: BackendOf, chores: Sequence[Chore] = ()) -> None:
        """Connect to nothing yet.

        Args:
            config: The settings.
            backend: Gives the backend of an alias; may raise what is wrong with it.
            chores: Regular work beside the drain.
        """
        self.config = config
        self.backend = backend
        self.chores = {chore.name: chore for chore in chores}
        self.stream = Stream(config, config.worker_redis_timeout_seconds)

    @property
    def aliases(self) -> list[str]:
        """The configured backends."""
        return list(self.config.backends)

    @property
    def shards(self) -> range:
        """The configured shards."""
        return range(self.config.shards)

    def drain(self, alias: str, shard: int, seconds: float | None = None) -> DrainResult:
        """Drain one shard into one backend, within ``seconds`` (by default, a tick).

        Raises:
            StreamUnavailable, BackendError: nothing is lost; try again later.
        """
        if seconds is None:
            seconds = self.config.drain_tick_seconds
        with suppress_recording():
            return self._drain(alias).run(shard, seconds)

    def pending(self) -> Iterable[tuple[str, int]]:
        """Yield the pairs of backend and shard that have something to drain."""
        lengths = {shard: self.stream.length(shard) for shard in self.shards}
        for shard, length in lengths.items():
            # An entry is trimmed when every backend has it, so a shard that is not empty
            # waits for one of them; a tick for the others costs one look.
            if length:
                for alias in self.aliases:
                    if not self.stream.leased(shard, alias):
                        yield alias, shard

    def status(self, alias: str) -> list[ShardStatus]:
        """Return the state of every shard for one backend."""
        return [self._shard_status(alias, shard) for shard in self.shards]

    def balance(self, alias: str) -> Balance:
        """Return the ledger of one backend, all told.

        Raises:
            BackendError, StreamUnavailable: one side of the equation cannot be read.
        """
        backend = self.backend(alias)
        in_flight = sum(sum(status.in_flight.values()) for status in self.status(alias))
        totals = ((outcome, amount) for _, outcome, amount in backend.ledger_totals())
        return Balance.of(totals, in_flight)

    def close(self) -> None:
        """Close the connections to Redis."""
        self.stream.close()

    def _drain(self, alias: str) -> Drain:
        entry = self.config.backends[alias]
        return Drain(self.config, self.stream, self.backend(alias), entry.accepts, self.aliases)

    def _shard_status(self, alias: str, shard: int) -> ShardStatus:
        checkpoint = self.backend(alias).read_checkpoint(shard)
        state = self.stream.state(shard)
        position = checkpoint.resume_after(state) if checkpoint else START
        accepts = self.config.backends[alias].accepts
        depth, in_flight, lag = self._walk(shard, position, accepts)
        leased = self.stream.leased(shard, alias)
        return ShardStatus(alias, shard, depth, in_flight, lag, position, leased)

    def _walk(
        self, shard: int, position: str, accepts: Callable[[str], bool]
    ) -> tuple[int, dict[str, int], float]:
        """Count what lies behind a position, by the frames' headers."""
        depth, in_flight, oldest = 0, dict[str, int](), 0.0
        while entries := self.stream.read(shard, position, _IN_FLIGHT_READ):
            oldest = oldest or id_seconds(entries[0].id)
            for entry in entries:
                try:
                    events = decode_header(entry.frame).events
                except FrameError:
                    continue
                for measurement, amount in events.items():
                    if accepts(measurement):
                        in_flight[measurement] = in_flight.get(measurement, 0) + amount
            depth += len(entries)
            position = entries[-1].id
        lag = max(0.0, self.stream.time() - oldest) if oldest else 0.0
        return depth, in_flight, lag


_installed: Callable[[], Runtime] | None = None
_runtime: Runtime | None = None
_lock = threading.Lock()


def install(make: Callable[[], Runtime]) -> None:
    """Say how to make this process's runtime; what was made before is closed."""
    global _installed, _runtime
    with _lock:
        previous, _runtime = _runtime, None
        _installed = make
    if previous is not None:
        previous.close()


def runtime() -> Runtime:
    """Return this process's runtime.

    Raises:
        ConfigurationError: nobody has set Tailrace up here.
    """
    global _runtime
    with _lock:
        if _runtime is None:
            if _installed is None:
                raise ConfigurationError(
                    "Tailrace is not set up in this process: add "
                    "'tailrace.django_integration' to INSTALLED_APPS and call django.setup()."
                )
            _runtime = _installed()
        return _runtime
