"""Workers of the drain's benchmark: processes of their own, which start on a signal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Workers:
    """Starts processes that drain two shards between them."""

    def __init__(self, dsn: str, redis_url: str) -> None:
        self._command = [sys.executable, "-m", "benchmarks.drain_workers", dsn, redis_url]

    @contextmanager
    def ready(self, count: int) -> Iterator[Callable[[], None]]:
        """Start workers; yield what sends them off and waits until all is drained.

        Args:
            count: 1 drains both shards, one after the other; with 2, each has one.
        """
        shards = ["0,1"] if count == 1 else ["0", "1"]
        workers = [
            subprocess.Popen(
                [*self._command, mine], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for mine in shards
        ]

        def go() -> None:
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            for worker in workers:
                _expect(worker, "done")

        try:
            for worker in workers:
                _expect(worker, "ready")
            yield go
        finally:
            for worker in workers:
                worker.communicate(timeout=60)


def _expect(worker: subprocess.Popen[str], word: str) -> None:
    assert worker.stdout is not None
    line = worker.stdout.readline().strip()
    if line != word:
        raise RuntimeError(f"a worker said {line!r}, not {word!r}")


def work(dsn: str, redis_url: str, shards: list[int]) -> None:
    """Be one worker."""
    from benchmarks.bench_drain import BACKEND
    from benchmarks.drain_parts import configure_django

    configure_django(dsn, redis_url, BACKEND, {})
    from tailrace.pipeline.runtime import runtime

    # What the first batch has to do in any case: connect, and load what it needs.
    for shard in shards:
        runtime().backend("default").read_checkpoint(shard)
        runtime().stream.length(shard)
    print("ready", flush=True)
    sys.stdin.readline()
    for shard in shards:
        while not runtime().drain("default", shard, 60).is_empty:
            pass
    print("done", flush=True)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], [int(shard) for shard in sys.argv[3].split(",")])
