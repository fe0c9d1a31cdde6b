"""The test project with two backends, each on a database of its own."""

from __future__ import annotations

import json
import os

from project.settings import *  # noqa: F403
from project.settings import TAILRACE

TAILRACE = {**TAILRACE, "BACKENDS": json.loads(os.environ["BACKFILL_BACKENDS"])}
if "BACKFILL_QUEUE" in os.environ:
    TAILRACE["BACKFILL_QUEUE"] = os.environ["BACKFILL_QUEUE"]
