"""One primary and its replicas: whose turn it is, who is down, who lags."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import InterfaceError, OperationalError, connections

from tailrace.django_integration.databases.replication import LagMeter
from tailrace.django_integration.routers.failover import Failover
from tailrace.pipeline import suppress_recording

#: Broken connections in a row, kept by this thread or its pool, before the replica itself is it.
PROBE_ATTEMPTS = 3

logger = logging.getLogger("tailrace.databases")


@dataclass
class ReplicaState:
    """What this process knows about one replica; shared by its threads."""

    probing: threading.Lock = field(default_factory=threading.Lock)
    is_up: bool | None = None
    lag_seconds: float | None = None
    next_probe_at: float = 0.0


class ReplicaPool:
    """Picks the alias of the next read by smooth weighted round robin.

    Args:
        primary: alias that is written to, and read where no replica will do.
        weights: alias to weight; may name the primary. Zero takes an alias out.
        max_lag_seconds: a replica that is further behind is skipped.
        probe_interval_seconds: how long a measured lag is believed.
        retry_after_seconds: how long a replica that was down is left alone.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        primary: str,
        weights: Mapping[str, int],
        *,
        max_lag_seconds: float,
        probe_interval_seconds: float,
        retry_after_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.primary = primary
        self.weights = {alias: weight for alias, weight in weights.items() if weight > 0}
        self.max_lag_seconds = max_lag_seconds
        self.probe_interval_seconds = probe_interval_seconds
        self.retry_after_seconds = retry_after_seconds
        self.states = {alias: ReplicaState() for alias in weights if alias != primary}
        self._clock = clock
        self.meter = LagMeter(primary, clock)
        self._turn = threading.Lock()
        self._credit = dict.fromkeys(self.weights, 0)

    @property
    def replicas(self) -> list[str]:
        """The aliases that are read from and never written to."""
        return list(self.states)

    def pick(self) -> str:
        """Name the alias of the next read; the primary if no replica is fit."""
        candidates = dict(self.weights)
        while candidates:
            alias = self._next_turn(candidates)
            if alias == self.primary or self._is_fit(alias):
                return alias
            del candidates[alias]
        return self.primary

    def mark_down(self, alias: str, reason: Exception) -> None:
        """Leave a replica alone for ``retry_after_seconds``."""
        state = self.states[alias]
        if state.is_up is not False:
            logger.warning(
                "Replica %r is down (%s); reads go elsewhere, next try in %g s.",
                alias,
                type(reason).__name__,
                self.retry_after_seconds,
            )
        state.is_up = False
        state.next_probe_at = self._clock() + self.retry_after_seconds

    def replace_connection(self, alias: str, reason: Exception) -> None:
        """Close this thread's broken connection, and mark the replica down if there is no new one.

        A connection that broke while the replica was away is found broken when the replica has
        long been back; every thread has one, and none of them says anything about the replica.
        """
        connections[alias].close()
        if self.states[alias].is_up is not False:
            self._connect(alias, reason)

    def _next_turn(self, candidates: Mapping[str, int]) -> str:
        with self._turn:
            for alias, weight in candidates.items():
                self._credit[alias] += weight
            chosen = max(candidates, key=self._credit.__getitem__)
            self._credit[chosen] -= sum(candidates.values())
        return chosen

    def _is_fit(self, alias: str) -> bool:
        if is_forbidden_by_test(alias):
            return False
        state = self.states[alias]
        if self._clock() >= state.next_probe_at:
            # One thread asks; the others go on with what is known, and never wait for it.
            if state.probing.acquire(blocking=False):
                try:
                    with suppress_recording():
                        self._probe(alias, state)
                finally:
                    state.probing.release()
            elif state.is_up is None:
                return False
        if not state.is_up or (state.lag_seconds or 0.0) > self.max_lag_seconds:
            return False
        return self._connect(alias)

    def _probe(self, alias: str, state: ReplicaState) -> None:
        try:
            if not self._measure(alias, state):
                return
        except RuntimeError:
            state.lag_seconds = None  # See _connect().
        if state.is_up is False:
            logger.info("Replica %r is back.", alias)
        state.is_up = True
        state.next_probe_at = self._clock() + self.probe_interval_seconds

    def _measure(self, alias: str, state: ReplicaState) -> bool:
        for attempt in range(1, PROBE_ATTEMPTS + 1):
            if not self._connect(alias):
                return False
            try:
                state.lag_seconds = self.meter.measure(alias)
                return True
            except (OperationalError, InterfaceError) as error:
                connections[alias].close()
                if attempt == PROBE_ATTEMPTS:
                    self.mark_down(alias, error)
        return False

    def _connect(self, alias: str, reason: Exception | None = None) -> bool:
        """Open this thread's connection now, while there is still another alias to choose."""
        connection = connections[alias]
        try:
            connection.close_if_health_check_failed()
            connection.ensure_connection()
        except (OperationalError, InterfaceError) as error:
            self.mark_down(alias, reason or error)
            return False
        except RuntimeError:
            # A test runner that forbids all database access says so with RuntimeError. The query
            # itself must be what raises it, not the question where it would go.
            return True
        self._attach_failover(alias, connection)
        return True

    def _attach_failover(self, alias: str, connection: Any) -> None:
        if not any(isinstance(wrapper, Failover) for wrapper in connection.execute_wrappers):
            connection.execute_wrappers.append(Failover(self, alias))


def is_forbidden_by_test(alias: str) -> bool:
    """Say whether the running Django test may not touch `alias` (its ``databases`` lacks it)."""
    testcases = sys.modules.get("django.test.testcases")
    if testcases is None:
        return False
    return isinstance(connections[alias].connect, testcases._DatabaseFailure)
