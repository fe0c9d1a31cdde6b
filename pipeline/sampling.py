"""Which events are kept where the owner asked for a share of them only."""

from __future__ import annotations

import random

from .config import Config
from .event import MEASUREMENTS_MAX

_TRACE_DIGITS = 8
_TRACE_RANGE = 16**_TRACE_DIGITS


class Sampler:
    """Decides by trace where there is one, so that a trace is kept whole or not at all.

    Traces start with random digits (W3C trace context, level 2), so their first 32 bits
    are as good as a fresh random number, and the same in every process that the trace visits.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        # Our own: who seeds the global one counts on its numbers.
        self._random = random.Random()
        self._rates: dict[str, float] = {}
        self.is_active = any(rate < 1.0 for rate in config.sampling.values())

    def keeps(self, measurement: str, trace_id: str | None) -> bool:
        """Return whether to keep an event."""
        rate = self._rates.get(measurement)
        if rate is None:
            rate = self._config.sampling_rate(measurement)
            if len(self._rates) < MEASUREMENTS_MAX:  # names come from callers
                self._rates[measurement] = rate
        if rate >= 1.0:
            return True
        if trace_id:
            try:
                return int(trace_id[:_TRACE_DIGITS], 16) < rate * _TRACE_RANGE
            except ValueError:  # a caller's own id, not hexadecimal
                pass
        return self._random.random() < rate
