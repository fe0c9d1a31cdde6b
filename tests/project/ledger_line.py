"""The ledger line of ``manage.py tailrace_status --ledger``, and what can be wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(
    r"^ledger: captured=(\d+) stored=(\d+) sampled_out=(\d+) dropped=(\d+) "
    r"dead_lettered=(\d+) in_flight=(-?\d+) balanced=(yes|no)$",
    re.MULTILINE,
)


class LedgerLineError(ValueError):
    """A command printed no ledger line."""


@dataclass(frozen=True)
class Ledger:
    """Events, by what became of them."""

    captured: int
    stored: int
    sampled_out: int
    dropped: int
    dead_lettered: int
    in_flight: int
    is_balanced: bool

    @classmethod
    def parse(cls, output: str) -> Ledger:
        """Read the last ledger line of ``output``.

        Raises:
            LedgerLineError: there is none.
        """
        lines = _LINE.findall(output)
        if not lines:
            raise LedgerLineError(f"no ledger line in: {output!r}")
        *counts, balanced = lines[-1]
        return cls(*map(int, counts), is_balanced=balanced == "yes")

    def line(self, is_balanced: bool) -> str:
        """Return the line again, with a verdict that may be stricter than its own."""
        return (
            f"ledger: captured={self.captured} stored={self.stored} "
            f"sampled_out={self.sampled_out} dropped={self.dropped} "
            f"dead_lettered={self.dead_lettered} in_flight={self.in_flight} "
            f"balanced={'yes' if is_balanced else 'no'}"
        )

    def problems(self, *, rows: int, requests: int, answered: int) -> list[str]:
        """Say what does not add up; nothing if all is well.

        Args:
            rows: rows in the table of events.
            requests: those of them with measurement ``request``.
            answered: requests that visitors know were answered.
        """
        found = []
        accounted = (
            self.stored + self.sampled_out + self.dropped + self.dead_lettered + self.in_flight
        )
        if not self.is_balanced:
            found.append("tailrace_status says so")
        if accounted != self.captured:
            found.append(f"{self.captured} events were captured, {accounted} are accounted for")
        if self.in_flight:
            found.append(f"{self.in_flight} events are still on their way")
        if rows != self.stored:
            found.append(f"the ledger says {self.stored} stored, the table has {rows} rows")
        if not answered:
            found.append("no request was answered, so nothing was shown")
        if answered > requests:
            found.append(f"{answered} requests were answered, {requests} have a row")
        return found
