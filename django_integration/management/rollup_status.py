"""What ``tailrace_status`` says of jobs, rollups and retention."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from tailrace.backends.jobs import Jobs, Run
from tailrace.backends.retention.progress import Progress
from tailrace.backends.rollups import log
from tailrace.backends.rollups.changes import objects
from tailrace.backends.rollups.declaration import from_text
from tailrace.backends.rollups.ranges import FIRST_US, Range, common, shown


def upkeep_report(backend: Any) -> dict[str, Any]:
    """Return the state of a backend's jobs, rollups and retention, as JSON can have it.

    Empty for backends that are on no Django database.

    Raises:
        BackendError: the database cannot be asked.
    """
    if not hasattr(backend, "retention_progress"):
        return {}
    jobs = Jobs(backend.alias, str(backend.get_db_alias()))
    return {
        "jobs": [
            {
                "name": state.name,
                "is_running": state.is_running,
                "runs": [msgspec.to_builtins(run) for run in state.runs],
            }
            for state in jobs.all()
        ],
        "rollups": _levels(backend),
        "retention": {
            target: _progress(progress) for target, progress in backend.retention_progress().items()
        },
    }


def upkeep_lines(report: dict[str, Any]) -> list[str]:
    """Return the same for people."""
    lines = []
    for job in report.get("jobs", ()):
        runs = [msgspec.convert(run, Run) for run in job["runs"]]
        lines.append(f"job       {job['name']}: {_run(runs[0]) if runs else 'never ran'}")
    for level in report.get("rollups", ()):
        text = f"rollup    {level['name']}: right up to {level['valid_until']}"
        if level["ranges_to_compute"]:
            text += f", {level['ranges_to_compute']} ranges before are to be computed"
        if level["kept_from"]:
            text += f"; kept from {level['kept_from']}"
        lines.append(text)
    for target, state in report.get("retention", {}).items():
        text = f"retention {target}: {state['last_rows']} rows before {state['before']} went last"
        text += f", {state['total_rows']} in all"
        if state["is_under_way"]:
            text += "; goes on"
        if state["waits_for"]:
            text += f"; waits for {state['waits_for']}"
        lines.append(text)
    return lines


def _run(run: Run) -> str:
    started = datetime.fromtimestamp(run.started_us / 1e6, UTC)
    text = f"{started:%Y-%m-%d %H:%M:%S} UTC, "
    if run.seconds is None:
        return text + (run.error or "under way")
    text += f"{run.seconds:.1f} s, {run.rows} rows"
    if run.is_unfinished:
        text += ", not done yet"
    if run.error:
        return f"{text}, failed: {run.error}"
    return f"{text}: {run.detail}" if run.detail else text


def _levels(backend: Any) -> list[dict[str, Any]]:
    using = str(backend.get_db_alias())
    found = []
    with backend._connected():
        sources = {
            row.source: row for row in objects(using, "RollupSource").filter(backend=backend.alias)
        }
        rows = objects(using, "RollupLevel").filter(backend=backend.alias)
        for row in rows.order_by("rollup", "level"):
            source = sources.get(row.source)
            if source is not None:
                found.append(_level(using, row, source))
    return found


def _level(using: str, row: Any, source: Any) -> dict[str, Any]:
    rollup = from_text(row.rollup, row.declaration)
    owners = (log.level_owner(row.id), log.source_owner(source.id))
    low_us = max(row.floor_us, source.floor_us) if row.level == 0 else row.floor_us
    reached = [Range(low_us, max(source.threshold_us, low_us))]
    waiting = common(log.ranges_of(using, owners), reached)
    valid_us = source.threshold_us
    # What waits at the very end is what the next refresh does; what waits before is late.
    if waiting and waiting[-1].high >= source.threshold_us:
        valid_us = waiting.pop().low
    return {
        "name": rollup.level_name(row.level),
        "source": row.source,
        "valid_until": shown(valid_us),
        "ranges_to_compute": len(waiting),
        "kept_from": "" if row.floor_us <= FIRST_US else shown(row.floor_us),
    }


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "before": shown(progress.before_us),
        "last_rows": progress.last_rows,
        "total_rows": progress.total_rows + progress.rows,
        "is_under_way": progress.position_us is not None,
        "waits_for": progress.waits_for,
    }
