"""Events in files: NDJSON, CSV, line protocol and Parquet.

Nothing here knows of Django, of databases or of backfills. A reader splits a file into records
(``records``), a format makes a :class:`Draft` of each (``ndjson``, ``csv_events``,
``influx_lines``), and :class:`EventMaker` makes events of drafts by the rules that hold for
recorded ones. A writer (``ndjson``, ``parquet``) makes one file of a slice of history, whole or
not at all (``shards``).

A file may come from anybody: every record is bounded before it is looked at, a bad one costs
itself only, and memory does not grow with the file.
"""

from .drafts import BadRecord, Draft, EventMaker
from .identity import Identity
from .read import Read, read_events
from .records import FileIndex, Format, Slice, index_file

__all__ = [
    "BadRecord",
    "Draft",
    "EventMaker",
    "FileIndex",
    "Format",
    "Identity",
    "Read",
    "Slice",
    "index_file",
    "read_events",
]
