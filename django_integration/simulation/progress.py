"""A progress bar: one line that is written over on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import Any

_BAR_CHARS = 30
_TERMINAL_SECONDS = 0.1
_LOG_SECONDS = 10.0


class Progress:
    """Shows how far something has come. Use it as a context manager."""

    def __init__(self, stream: Any, total: int, unit: str) -> None:
        """Prepare; nothing is shown yet.

        Args:
            stream: Where to; whether it is a terminal decides how.
            total: What 100 % is.
            unit: What is counted, for people: ``readings``.
        """
        self._stream = stream
        self._total = max(1, total)
        self._unit = unit
        self._is_terminal = bool(getattr(stream, "isatty", bool)())
        self._every = _TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS
        self._started = time.monotonic()
        self._shown_at = self._started if not self._is_terminal else 0.0
        self.done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        """End the line, as far as it came."""
        self._show()
        if self._is_terminal:
            self._stream.write("\n")

    def advance(self, amount: int = 1) -> None:
        """Count, and show it if it is time."""
        self.done += amount
        now = time.monotonic()
        if now - self._shown_at >= self._every:
            self._shown_at = now
            self._show()

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """How many a second so far."""
        return self.done / max(self.seconds, 1e-6)

    def _show(self) -> None:
        share = min(1.0, self.done / self._total)
        bar = ("#" * round(share * _BAR_CHARS)).ljust(_BAR_CHARS, ".")
        text = f"[{bar}] {share:4.0%}  {self.done:,} {self._unit}  {self.rate:,.0f}/s"
        self._stream.write(f"\r{text}   " if self._is_terminal else f"{text}\n")
        self._stream.flush()
