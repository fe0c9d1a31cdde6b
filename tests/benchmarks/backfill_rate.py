"""A copy from PostgreSQL to PostgreSQL by one worker, beside the bare drain of the same rows."""

from __future__ import annotations

import statistics
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import redis
from benchmarks import drain_parts as parts
from postgres_server import PostgresServer
from servers import RedisServer

BACKEND = "tailrace.backends.postgres.PostgresBackend"
MEASUREMENTS = ("request", "query", "checkout")
BAR = 0.5


def main(server: PostgresServer, redis_server: RedisServer, rounds: int, events: int) -> None:
    """Drain rows into one database and copy them into another, again and again.

    Args:
        server: Where both databases are.
        redis_server: Where the frames are.
        rounds: How often.
        events: How many rows each time.
    """
    urls = [server.create_database(name) for name in ("rate_old", "rate_new")]
    _configure(urls, redis_server.url())
    raw = parts.raw_events(events)
    ratios = []
    with (
        psycopg.connect(urls[0], autocommit=True) as old,
        psycopg.connect(urls[1], autocommit=True) as new,
    ):
        for number in range(rounds + 1):
            drained, copied = _round(raw, old, new, redis_server)
            if number:  # the first one warms caches
                ratios.append(copied / drained)
                print(f"  drain {drained:9,.0f} rows/s, copy {copied:9,.0f} rows/s", flush=True)
    print(f"bar, figure: copy >= {BAR} of the bare drain  {statistics.median(ratios):6.2f}")


def _round(raw: list[Any], old: Any, new: Any, redis_server: RedisServer) -> tuple[float, float]:
    from tailrace.django_integration.backfills import service

    parts.empty_tables(old)
    parts.empty_tables(new)
    client = redis.Redis.from_url(redis_server.url())
    parts.fill(client, {0: parts.frames(raw, 0)})
    started = time.perf_counter()
    _drain()
    drained = len(raw) / (time.perf_counter() - started)
    old.execute("ANALYZE tailrace_event")
    started = time.perf_counter()
    for measurement in MEASUREMENTS:
        given = {"source": "default", "target": "new", "measurement": measurement}
        uid = service.start("copy", given, is_throttled=False)
        if service.work(uid) != "ended":
            raise RuntimeError("the copy did not end")
    copied = len(raw) / (time.perf_counter() - started)
    rows = parts.event_count(new)
    if rows != len(raw):
        raise RuntimeError(f"{rows} of {len(raw)} rows were copied")
    return drained, copied


def _drain() -> None:
    from tailrace.pipeline.drain import Drain
    from tailrace.pipeline.runtime import runtime

    process = runtime()
    backend = process.backend("default")
    drain = Drain(process.config, process.stream, backend, lambda name: True, ["default"])
    while not drain.run(0, 60).is_empty:
        pass


def _configure(urls: list[str], redis_url: str) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    aliases = ("default", "telemetry")
    accepted = {"default": ["*"], "new": ["nothing"]}
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "tailrace.django_integration"],
        USE_TZ=True,
        DATABASES=dict(zip(aliases, map(_database, urls), strict=True)),
        TAILRACE={
            "REDIS_URL": redis_url,
            "KEY_PREFIX": parts.PREFIX,
            "SHARDS": 2,
            "ENABLED": False,
            "BACKENDS": {
                name: {"BACKEND": BACKEND, "OPTIONS": {"ALIAS": alias}, "MEASUREMENTS": which}
                for (name, which), alias in zip(accepted.items(), aliases, strict=True)
            },
        },
    )
    django.setup()
    for alias in aliases:
        call_command("migrate", "tailrace", database=alias, verbosity=0)


def _database(url: str) -> dict[str, Any]:
    parsed = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parsed.path.lstrip("/"),
        "USER": unquote(parsed.username or ""),
        "PASSWORD": unquote(parsed.password or ""),
        "HOST": parsed.hostname or "",
        "PORT": parsed.port or "",
    }
