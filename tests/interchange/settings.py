"""The settings of the backfill tests, with folders to exchange files in, and a peer's database."""

from __future__ import annotations

import os

import dj_database_url
from backfill.settings import *  # noqa: F403
from backfill.settings import DATABASES, TAILRACE

TAILRACE = {**TAILRACE, "EXCHANGE_DIRS": os.environ["EXCHANGE_DIRS"].split(":")}
if "PEER_DATABASE_URL" in os.environ:
    DATABASES["peer"] = dj_database_url.parse(os.environ["PEER_DATABASE_URL"])
