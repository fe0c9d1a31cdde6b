"""``manage.py tailrace_drain``: what the Celery tasks do, without Celery."""

from __future__ import annotations

import signal
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.core.management.base import CommandError

from tailrace.django_integration.management.base import TailraceCommand
from tailrace.pipeline.errors import (
    BackendError,
    BackendMisconfigured,
    StreamUnavailable,
    TailraceError,
)
from tailrace.pipeline.runtime import Runtime, runtime

_LONGEST_PAUSE_SECONDS = 30.0
_SHORT_PAUSE_SECONDS = 0.2


class Command(TailraceCommand):
    """Drain Redis into the storage backends."""

    help = (
        "Drain Redis into the storage backends: once over all shards, until nothing is left "
        "(--until-empty), or for ever (--loop), as an alternative to a Celery worker."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--until-empty", action="store_true", help="go on until all is stored")
        mode.add_argument("--loop", action="store_true", help="go on until interrupted")
        parser.add_argument("--backend", help="only this backend", metavar="ALIAS")
        parser.add_argument("--timeout", type=float, help="give up after so many seconds")

    def handle(self, *args: Any, **options: Any) -> None:
        process = runtime()
        aliases = _aliases(process, options["backend"])
        self._is_stopped = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        if options["loop"]:
            total = self._loop(process, aliases)
        else:
            total = self._drain(process, aliases, options["until_empty"], options["timeout"])
        self.stdout.write(f"drained {total} events into {', '.join(aliases)}")

    def _drain(
        self, process: Runtime, aliases: list[str], until_empty: bool, timeout: float | None
    ) -> int:
        deadline = time.monotonic() + (timeout or float("inf"))
        total = 0
        while not self._is_stopped:
            events, is_empty, error = self._round(process, aliases)
            total += events
            if error is not None:
                raise CommandError(f"{error} Nothing is lost; run it again.")
            if is_empty or not until_empty:
                break
            if time.monotonic() >= deadline:
                raise CommandError(f"not empty after {timeout:g} s; {total} events drained")
            if not events:  # another drainer is at it
                time.sleep(_SHORT_PAUSE_SECONDS)
        return total

    def _loop(self, process: Runtime, aliases: list[str]) -> int:
        total = 0
        pause = interval = process.config.drain_interval_seconds
        due = dict.fromkeys(process.chores, 0.0)
        while not self._is_stopped:
            self._do_chores(process, due)
            events, is_empty, error = self._round(process, aliases)
            total += events
            if isinstance(error, BackendMisconfigured):
                raise CommandError(str(error))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS) if error else interval
            if error is not None:
                self.stderr.write(f"{error} Trying again in {pause:g} s.")
            if is_empty or error is not None:
                self._sleep(pause)
        return total

    def _do_chores(self, process: Runtime, due: dict[str, float]) -> None:
        """Do what beat would start, where there is no beat."""
        for name, chore in process.chores.items():
            if time.monotonic() < due[name]:
                continue
            due[name] = time.monotonic() + chore.every_seconds
            try:
                chore.run()
            except TailraceError as error:
                self.stderr.write(f"{name}: {error} It is tried again when it is due.")

    def _sleep(self, seconds: float) -> None:
        """Sleep, but wake up soon after a signal."""
        until = time.monotonic() + seconds
        while not self._is_stopped and time.monotonic() < until:
            time.sleep(min(_SHORT_PAUSE_SECONDS, seconds))

    def _round(
        self, process: Runtime, aliases: list[str]
    ) -> tuple[int, bool, BackendError | StreamUnavailable | None]:
        """Give every shard of every backend a turn; one that fails does not stop the others."""
        total, is_empty = 0, True
        failure: BackendError | StreamUnavailable | None = None
        for alias in aliases:
            for shard in process.shards:
                if self._is_stopped:
                    return total, is_empty, failure
                try:
                    result = process.drain(alias, shard)
                except (BackendError, StreamUnavailable) as error:
                    failure = error
                    continue
                total += result.events
                is_empty = is_empty and result.is_empty
                # A lease that somebody else holds looks empty, and is not.
                if result.is_empty and process.stream.leased(shard, alias):
                    is_empty = False
        return total, is_empty, failure

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Finish the batch at hand, then end."""
        self._is_stopped = True


def _aliases(process: Runtime, wanted: str | None) -> list[str]:
    if wanted is None:
        return process.aliases
    if wanted not in process.aliases:
        raise CommandError(f"no backend {wanted!r}; there are: {', '.join(process.aliases)}")
    return [wanted]
