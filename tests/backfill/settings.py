"""The test project with two backends, each on a database of its own."""

from __future__ import annotations

import json
import os

from project.settings import *  # noqa: F403
from project.settings import DATABASES, SQLITE_OPTIONS, TAILRACE

TAILRACE = {**TAILRACE, "BACKENDS": json.loads(os.environ["BACKFILL_BACKENDS"])}
if "BACKFILL_QUEUE" in os.environ:
    TAILRACE["BACKFILL_QUEUE"] = os.environ["BACKFILL_QUEUE"]
if "TELEMETRY_MAX_PAGES" in os.environ:  # for tests of a database that becomes full
    limit = int(os.environ["TELEMETRY_MAX_PAGES"])
    command = f"{SQLITE_OPTIONS['init_command']}PRAGMA max_page_count={limit};"
    DATABASES["telemetry"]["OPTIONS"] = {**SQLITE_OPTIONS, "init_command": command}
