"""A rollup's declaration as the text in ``RollupLevel.declaration``, and back."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from tailrace.pipeline.rollup import Rollup


def to_text(rollup: Rollup) -> str:
    """Return a declaration as JSON: everything but its name."""

    def shown(interval: Any) -> str | None:
        return None if interval is None else str(interval)

    content = {
        "source": rollup.source,
        "fields": rollup.fields,
        "functions": rollup.functions,
        "widths": [str(width) for width in rollup.widths],
        "group_by": rollup.group_by,
        "start_offset": shown(rollup.start_offset),
        "end_offset": shown(rollup.end_offset),
        "schedule_interval": shown(rollup.schedule_interval),
        "with_data": rollup.with_data,
        "time_zone": rollup.zone_name,
    }
    return msgspec.json.encode(content).decode()


@functools.lru_cache(maxsize=1_000)
def from_text(name: str, text: str) -> Rollup:
    """Undo :func:`to_text`.

    Args:
        name: The rollup's.
        text: Its declaration.

    Raises:
        ValueError: it is none, or one of a version that knew more.
    """
    try:
        content = msgspec.json.decode(text, type=dict[str, Any])
        for key in ("fields", "functions", "widths", "group_by"):
            content[key] = tuple(content[key])
        return Rollup.make(name, **content)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ValueError(f"rollup {name!r}: its stored declaration cannot be read") from error
