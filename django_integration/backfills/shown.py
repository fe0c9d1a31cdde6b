"""Backfills in words and numbers, for the command and for pages."""

from __future__ import annotations

from typing import Any

from tailrace.pipeline.backfill.contracts import Estimate
from tailrace.pipeline.backfill.records import DONE, FAILED

from .service import Progress

_BAR_CHARS = 24


def bar(progress: Progress) -> str:
    """Return one line: id, kind, state, a bar, rows, rate and remaining time."""
    tally, record = progress.tally, progress.record
    full = int(tally.fraction * _BAR_CHARS)
    drawn = "#" * full + "." * (_BAR_CHARS - full)
    rows = f"{tally.rows_settled:,} of {tally.rows_planned:,}"
    parts = [record.uid[:8], record.kind, progress.phase, f"[{drawn}]", rows]
    if progress.phase == "running" and tally.rows_per_second:
        parts.append(f"{tally.rows_per_second:,.0f}/s")
        parts.append(f"{duration(tally.remaining_seconds)} left")
    if failed := tally.steps.get(FAILED):
        parts.append(f"{failed} steps failed")
    return "  ".join(parts)


def estimated(estimate: Estimate) -> str:
    """Return an estimate as a sentence."""
    about = "" if estimate.is_exact else "about "
    words = [f"{about}{estimate.rows:,} rows"]
    if estimate.bytes:
        words.append(f"about {size(estimate.bytes)}")
    if estimate.seconds:
        words.append(f"about {duration(estimate.seconds)} with one worker")
    return ", ".join(words) + "".join(f"; {note}" for note in estimate.notes)


def summed_up(progress: Progress, with_log: bool = False) -> dict[str, Any]:
    """Return a backfill as JSON has it."""
    record, tally = progress.record, progress.tally
    found: dict[str, Any] = {
        "uid": record.uid,
        "kind": record.kind,
        "state": record.state,
        "phase": progress.phase,
        "created_by": record.created_by,
        "created_ms": record.created_ms,
        "finished_ms": record.finished_ms,
        "parameters": progress.values,
        "steps": dict(tally.steps),
        "steps_done": tally.steps.get(DONE, 0),
        "rows_planned": tally.rows_planned,
        "rows_settled": tally.rows_settled,
        "rows_per_second": round(tally.rows_per_second, 1),
        "remaining_seconds": tally.remaining_seconds,
        "result": progress.result,
        "failures": [list(failure) for failure in progress.failures],
        "can": list(progress.can),
    }
    return {**found, "log": list(progress.log)} if with_log else found


def size(amount: float) -> str:
    """Return bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float | None) -> str:
    """Return a time as people read it."""
    if seconds is None:
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
