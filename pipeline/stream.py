"""Redis: the only module that knows it.

Keys, all with the shard in braces so that a Redis Cluster keeps them together::

    <prefix>:{<k>}:stream      stream; one entry = one frame, in field ``f``
    <prefix>:{<k>}:epoch       random token; gone or different = Redis has lost its memory
    <prefix>:{<k>}:positions   hash; the committed position of each backend
    <prefix>:{<k>}:trimmed     the last entry that overflow has cut off unread
    <prefix>:{<k>}:lease:<b>   who drains this shard into backend b just now
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import redis
import redis.backoff
import redis.cluster
import redis.retry

from .config import Config
from .errors import StreamFull, StreamUnavailable
from .redis_url import is_legible, safe_url

START = "0-0"
"""Position before the first entry of any stream."""

_FIELD = b"f"
_CLUSTER_CLIENT_MAJOR = 6
_MEMORY_CHECK_SECONDS = 1.0
_TRIM_SHARE = 0.1


class Entry(NamedTuple):
    """One item of a stream."""

    id: str
    frame: bytes


class ShardState(NamedTuple):
    """What a drain needs to know before it reads."""

    epoch: str
    last_id: str
    """Newest entry ever added, by Redis's memory of it."""
    trimmed_through: str
    has_positions: bool
    """Whether any backend has drained this shard before."""


class Stream:
    """The shards of one Redis.

    Not bound to a connection: the client connects when first used, and again in each
    process, so an instance may be made before a fork.
    """

    def __init__(self, config: Config, timeout_seconds: float) -> None:
        """Connect to nothing yet.

        Args:
            config: Gives the address, the prefix and the bounds.
            timeout_seconds: For connecting and for each answer.
        """
        self._config = config
        self._timeout_seconds = timeout_seconds
        self._client: Any = None
        self._client_pid = 0
        self._connects = 0
        self._token = secrets.token_hex(8)
        self._max_bytes = config.stream_max_bytes // config.shards
        self._bytes: dict[int, int] = {}
        self._checked_at: dict[int, float] = {}

    # --- for the flusher

    def send(self, shard: int, frames: Sequence[bytes], ignores_bound: bool = False) -> str:
        """Append frames, all or none, in order.

        Args:
            shard: To which stream.
            frames: What to append.
            ignores_bound: Even if our share of Redis is full; for frames that only count.

        Returns:
            What :meth:`memory_token` returns.

        Raises:
            StreamFull: the shard, or Redis, has no room.
            StreamUnavailable: it cannot be known whether the frames arrived; sending them
                again is safe, since the drain drops what it has seen.
        """
        is_full = self._bytes.get(shard, 0) > self._max_bytes
        if is_full and not ignores_bound and not self._has_room_now(shard):
            raise StreamFull(f"shard {shard} holds {self._bytes[shard]} bytes")
        with self._translated():
            # MULTI, or else an entry in the middle could fail (out of memory) while the next
            # one succeeds, and the drain would take the late one for a copy.
            pipe = self._redis().pipeline(transaction=True)
            for frame in frames:
                pipe.xadd(self._key(shard, "stream"), {_FIELD: frame})
            self._ask_memory_token(pipe, shard)
            is_due = time.monotonic() - self._checked_at.get(shard, 0) > _MEMORY_CHECK_SECONDS
            if is_due:
                pipe.memory_usage(self._key(shard, "stream"))
            results = pipe.execute()
            if is_due:
                self._note_bytes(shard, results.pop())
            else:
                self._bytes[shard] = self._bytes.get(shard, 0) + sum(map(len, frames))
            return self._memory_token(results)

    def make_room(
        self, shard: int, stubs_of: Callable[[list[bytes]], list[bytes]] = lambda frames: []
    ) -> None:
        """Cut the oldest entries off until a tenth is free; the drain books them as trimmed.

        Args:
            shard: Which stream.
            stubs_of: Makes, of frames that are cut off, the frames that say so; they are
                appended in the same transaction.
        """
        with self._translated():
            enough = self._max_bytes * (1 - _TRIM_SHARE)
            while self._trim_oldest(shard, stubs_of) and self._bytes[shard] > enough:
                pass

    def _trim_oldest(self, shard: int, stubs_of: Callable[[list[bytes]], list[bytes]]) -> bool:
        """Cut a tenth of the entries off; return whether there is more to cut."""
        client = self._redis()
        stream = self._key(shard, "stream")
        cut = math.ceil(client.xlen(stream) * _TRIM_SHARE)
        # Nothing of ours is left to cut where others have filled this Redis.
        entries = client.xrange(stream, count=cut) if cut else []
        if not entries:
            return False
        last_cut = _text(entries[-1][0])
        pipe = client.pipeline(transaction=True)
        pipe.xtrim(stream, minid=_next_id(last_cut), approximate=False)
        pipe.set(self._key(shard, "trimmed"), last_cut)
        stubs = stubs_of([item.get(_FIELD, b"") for _, item in entries])
        for stub in stubs:
            pipe.xadd(stream, {_FIELD: stub})
        pipe.memory_usage(stream)
        self._note_bytes(shard, pipe.execute()[-1])
        # A stub for each entry would come back for ever.
        return len(stubs) < len(entries)

    def memory_token(self, shard: int) -> str:
        """Return a token; another one than last time means that Redis may have lost something.

        The epoch tells a Redis that lost all. The connection tells one that was restarted,
        perhaps from an older snapshot, which knows the epoch still; the server's number for
        it alone would not do, since a restarted server counts from 1 again.
        """
        with self._translated():
            pipe = self._redis().pipeline(transaction=True)
            self._ask_memory_token(pipe, shard)
            return self._memory_token(pipe.execute())

    def _ask_memory_token(self, pipe: Any, shard: int) -> None:
        self._ensure_epoch(pipe, shard)
        if self._config.redis_cluster:
            # Commands without a key cannot be in a transaction on a cluster. There, the
            # flusher's failed attempts tell of a restart, and the epoch of an empty node.
            pipe.exists(self._key(shard, "epoch"))
        else:
            pipe.client_id()

    def _memory_token(self, results: list[Any]) -> str:
        epoch, connection = results[-2:]
        return f"{_text(epoch)}/{self._connects}/{connection}"

    def _ensure_epoch(self, pipe: Any, shard: int) -> None:
        """Give a new memory a token that none had before; whoever comes first does it."""
        pipe.set(self._key(shard, "epoch"), secrets.token_hex(8), nx=True)
        pipe.get(self._key(shard, "epoch"))

    # --- for the drain

    def state(self, shard: int) -> ShardState:
        """Return what there is to know about a shard before reading it."""
        with self._translated():
            pipe = self._redis().pipeline(transaction=False)
            self._ensure_epoch(pipe, shard)
            pipe.get(self._key(shard, "trimmed"))
            pipe.exists(self._key(shard, "positions"))
            pipe.xinfo_stream(self._key(shard, "stream"))
            _, epoch, trimmed, positions, info = pipe.execute(raise_on_error=False)
            if isinstance(info, redis.ResponseError):  # no such key: nothing was ever sent
                info = {}
            if isinstance(epoch, Exception):
                raise epoch
            last_id = _text(info.get("last-generated-id", START))
            return ShardState(_text(epoch or ""), last_id, _text(trimmed or START), bool(positions))

    def read(self, shard: int, after: str, count: int) -> list[Entry]:
        """Return up to ``count`` entries that come after the position ``after``."""
        with self._translated():
            items = self._redis().xrange(self._key(shard, "stream"), min=f"({after}", count=count)
            return [Entry(_text(entry_id), item.get(_FIELD, b"")) for entry_id, item in items]

    def publish_position(self, shard: int, alias: str, position: str) -> None:
        """Tell the other backends how far ``alias`` has come."""
        with self._translated():
            self._redis().hset(self._key(shard, "positions"), alias, position)

    def trim(self, shard: int, aliases: Sequence[str]) -> int:
        """Remove the entries that every backend has committed.

        Args:
            shard: Which stream.
            aliases: The configured backends. One that never published keeps everything.

        Returns:
            How many entries were removed.
        """
        with self._translated():
            client = self._redis()
            positions = client.hmget(self._key(shard, "positions"), list(aliases))
            if not positions or None in positions:
                return 0
            oldest = min((_text(position) for position in positions), key=id_key)
            return int(
                client.xtrim(self._key(shard, "stream"), minid=_next_id(oldest), approximate=False)
            )

    @contextlib.contextmanager
    def lease(self, shard: int, alias: str, seconds: float) -> Iterator[bool]:
        """Try to be the only one who drains ``shard`` into ``alias``.

        It only saves double work: the checkpoint is what keeps drainers apart. Yields whether
        the lease is ours; :meth:`renew_lease` keeps it.
        """
        key, mine = self._key(shard, f"lease:{alias}"), f"{self._token}:{os.getpid()}"
        with self._translated():
            is_ours = bool(self._redis().set(key, mine, nx=True, px=int(seconds * 1000)))
        try:
            yield is_ours
        finally:
            if is_ours:
                with contextlib.suppress(StreamUnavailable), self._translated():
                    if _text(self._redis().get(key) or "") == mine:
                        self._redis().delete(key)

    def renew_lease(self, shard: int, alias: str, seconds: float) -> None:
        """Keep the lease for another ``seconds``."""
        with self._translated():
            self._redis().pexpire(self._key(shard, f"lease:{alias}"), int(seconds * 1000))

    # --- for status and checks

    def leased(self, shard: int, alias: str) -> bool:
        """Return whether somebody drains ``shard`` into ``alias`` now."""
        with self._translated():
            return bool(self._redis().exists(self._key(shard, f"lease:{alias}")))

    def length(self, shard: int) -> int:
        """Return the number of entries in a shard."""
        with self._translated():
            return int(self._redis().xlen(self._key(shard, "stream")))

    def memory_bytes(self, shard: int) -> int:
        """Return the memory that a shard takes in Redis."""
        with self._translated():
            return int(self._redis().memory_usage(self._key(shard, "stream")) or 0)

    def time(self) -> float:
        """Return Redis's clock, in seconds since 1970; entry ids are made by it."""
        with self._translated():
            seconds, microseconds = self._redis().time()
            return float(seconds) + float(microseconds) / 1e6

    def server_info(self) -> dict[str, Any]:
        """Return Redis's own account of itself (``INFO``)."""
        with self._translated():
            return dict(self._redis().info())

    def close(self) -> None:
        """Close the connections of this process."""
        client, self._client = self._client, None
        if client is not None and self._client_pid == os.getpid():
            client.close()

    # --- inside

    def _redis(self) -> Any:
        if self._client is None or self._client_pid != os.getpid():
            self._client = _connect(self._config, self._timeout_seconds, self._note_connect)
            self._client_pid = os.getpid()
        return self._client

    def _note_connect(self, connection: Any) -> None:
        self._connects += 1
        connection.on_connect()

    def _key(self, shard: int, name: str) -> str:
        return f"{self._config.key_prefix}:{{{shard}}}:{name}"

    def _has_room_now(self, shard: int) -> bool:
        """Look again: drains make room without telling us."""
        if time.monotonic() - self._checked_at.get(shard, 0) > _MEMORY_CHECK_SECONDS:
            self._note_bytes(shard, self.memory_bytes(shard))
        return self._bytes[shard] <= self._max_bytes

    def _note_bytes(self, shard: int, size: int | None) -> None:
        self._bytes[shard] = int(size or 0)
        self._checked_at[shard] = time.monotonic()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's errors into ours; see docs/decisions for the time-outs."""
        try:
            yield
        except redis.ResponseError as error:
            if "OOM" in str(error) or "maxmemory" in str(error):
                raise StreamFull(f"Redis at {safe_url(self._config.redis_url)}: {error}") from error
            raise StreamUnavailable(
                f"Redis at {safe_url(self._config.redis_url)} refused a command: {error}"
            ) from error
        except (redis.RedisError, OSError, ValueError) as error:
            if not is_legible(self._config.redis_url):
                # What the parser took for a port can be half of a password: not a word of it.
                raise StreamUnavailable(
                    f"TAILRACE['REDIS_URL'] ({safe_url(self._config.redis_url)}) is no URL: "
                    "percent-encode the characters / ? # @ : of its user name and password."
                ) from None
            why = str(error).rstrip(".")
            raise StreamUnavailable(
                f"Redis at {safe_url(self._config.redis_url)} cannot be reached: {why}. "
                "Check TAILRACE['REDIS_URL'] and that the server runs."
            ) from error


def _connect(config: Config, timeout_seconds: float, on_connect: Callable[[Any], None]) -> Any:
    url = (
        config.redis_url.replace("valkey", "redis", 1)
        if "valkey" in config.redis_url[:7]
        else (config.redis_url)
    )
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        # The client's own retries would multiply the time-out; the breaker is ours.
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        "protocol": 2,
        "redis_connect_func": on_connect,
    }
    if config.redis_cluster:
        if int(redis.__version__.partition(".")[0]) < _CLUSTER_CLIENT_MAJOR:
            raise StreamUnavailable(
                "TAILRACE['REDIS_CLUSTER'] needs transactions on a cluster, which redis-py has "
                f"from version {_CLUSTER_CLIENT_MAJOR} on: pip install 'redis>="
                f"{_CLUSTER_CLIENT_MAJOR}' (this is {redis.__version__})."
            )
        return redis.cluster.RedisCluster.from_url(url, **options)
    return redis.Redis.from_url(url, **options)


def id_key(entry_id: str) -> tuple[int, int]:
    """Return what to sort entry ids by; as text, ``9-0`` would come after ``10-0``."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def id_seconds(entry_id: str) -> float:
    """Return when an entry was added, in seconds since 1970, by Redis's clock."""
    return id_key(entry_id)[0] / 1000


def _next_id(entry_id: str) -> str:
    milliseconds, number = id_key(entry_id)
    return f"{milliseconds}-{number + 1}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
