"""How a backfill goes, as its page shows it and as the page asks for it again and again."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.apps import apps
from django.db.models import Max

from tailrace.django_integration.backfills.service import Progress
from tailrace.pipeline.backfill.contracts import Estimate, StepResult
from tailrace.pipeline.backfill.records import CANCELLED, DONE, FAILED, READY, RUNNING, Tally

from . import render

IDLE_SECONDS = 10.0
"""After so long without a sign of any worker, the page says so."""
FAILURES_SHOWN = 20
_LOG_TIME = "%Y-%m-%d %H:%M:%S"
_LOG_TIME_CHARS = 19


def status(row: Any, progress: Progress) -> dict[str, Any]:
    """Return everything on the page that changes: texts, and other JSON values.

    Args:
        row: The backfill's row, for its leases.
        progress: What the service says of it, read after the row.
    """
    state = progress.record.state
    log = "\n".join(progress.log)
    fraction = 1.0 if state == DONE else min(1.0, progress.tally.fraction)
    failures = [[str(number), label, why] for number, label, why in progress.failures]
    return {
        "state": state,
        "phase": progress.phase,
        "is_over": state in (DONE, CANCELLED),
        "can": list(progress.can),
        "fraction": round(fraction, 4),
        "figures": _figures(progress, fraction),
        "idle": idle_text(row, log) if state == RUNNING else "",
        "failures": failures[:FAILURES_SHOWN],
        "result": result_rows(progress.result),
        "notes": list(progress.result.get("notes", ())),
        "log": log,
        "log_key": f"{zlib.crc32(log.encode(errors='replace')):08x}",
    }


def _figures(progress: Progress, fraction: float) -> dict[str, str]:
    record, tally = progress.record, progress.tally
    total = sum(tally.steps.values())
    done = tally.steps.get(DONE, 0)
    ended_ms = record.finished_ms or int(datetime.now(UTC).timestamp() * 1000)
    elapsed_seconds = max(0.0, (ended_ms - record.created_ms) / 1000)
    return {
        "percent": f"{100 * fraction:.1f} %" if record.is_planned else render.NOTHING,
        "steps": f"{done:,} of {total:,}" if record.is_planned else f"{total:,} planned so far",
        "running": f"{tally.steps.get(RUNNING, 0):,}",
        "failed": f"{tally.steps.get(FAILED, 0):,}",
        "rows": f"{tally.rows_settled:,} of about {tally.rows_planned:,}",
        "rate": _rate(progress, elapsed_seconds),
        "remaining": _remaining(progress, tally),
        "elapsed": duration(elapsed_seconds),
    }


def _rate(progress: Progress, elapsed_seconds: float) -> str:
    if progress.record.state == RUNNING:
        return f"{progress.tally.rows_per_second:,.0f} rows/s"
    if progress.record.finished_ms and elapsed_seconds:
        return f"{progress.tally.rows_settled / elapsed_seconds:,.0f} rows/s over all"
    return render.NOTHING


def _remaining(progress: Progress, tally: Tally) -> str:
    seconds = tally.remaining_seconds
    if progress.phase != RUNNING or seconds is None:
        return render.NOTHING
    return f"about {duration(seconds)}"


def duration(seconds: float) -> str:
    """Return a length of time for people, in its two largest units."""
    if seconds < 1:
        return "less than a second"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole, "s")]
    first = next(index for index, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)


def idle_text(row: Any, log: str) -> str:
    """Return for how long no worker has been heard of, as a sentence; empty if one was."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    if row.lease_ms > now_ms:
        return ""
    steps = apps.get_model("tailrace", "BackfillStep").objects.using(row._state.db)
    steps = steps.filter(backfill=row.uid)
    # A step that somebody has, or that was put off until its storage is back.
    if steps.filter(state__in=(READY, RUNNING), lease_ms__gt=now_ms).exists():
        return ""
    ended_ms = steps.aggregate(last=Max("ended_ms"))["last"] or 0
    last_ms = max(ended_ms, int(row.created_at.timestamp() * 1000), _last_line_ms(log))
    idle_seconds = (now_ms - last_ms) / 1000
    if idle_seconds < IDLE_SECONDS:
        return ""
    return f"No worker has done anything for {duration(idle_seconds)}."


def _last_line_ms(log: str) -> int:
    """Return when the log's last line was written, in milliseconds since 1970; 0 if unknown."""
    line = log.rstrip("\n").rpartition("\n")[2]
    try:
        moment = datetime.strptime(line[:_LOG_TIME_CHARS], _LOG_TIME)
    except ValueError:
        return 0
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)


def result_rows(result: dict[str, Any]) -> list[list[str]]:
    """Return titles and values of a result, for people; none before there is one."""
    if not result:
        return []
    total = msgspec.convert(result, StepResult)
    rows = [
        ["Read", f"{total.rows_read:,}"],
        ["Written", f"{total.rows_written:,}"],
        ["Already there", f"{total.rows_present:,}"],
    ]
    if total.rows_refused:
        rows.append(["Refused", f"{total.rows_refused:,}"])
    if total.bytes:
        rows.append(["Size", render.size(total.bytes)])
    if total.source_digest and total.target_digest:
        verdict = "equal" if total.is_equal else "NOT equal"
        rows.append(["Count and checksum", f"{verdict} at both ends: {_digests(total)}"])
    return rows


def _digests(total: StepResult) -> str:
    ends = (total.source_digest, total.target_digest)
    return ends[0] if total.is_equal else " and ".join(ends)


def estimate_rows(estimate: Estimate) -> list[tuple[str, str]]:
    """Return titles and values of an estimate, for people."""
    rows = f"{estimate.rows:,}" if estimate.is_exact else f"about {estimate.rows:,}"
    size = f"about {render.size(estimate.bytes)}" if estimate.bytes else "not known"
    seconds = estimate.seconds
    time = f"about {duration(seconds)} with one worker, without live traffic"
    return [("Rows", rows), ("Size", size), ("Time", time if seconds else "not known")]
