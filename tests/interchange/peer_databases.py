"""Databases that other tools have made themselves, in processes of their own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dj_database_url
from django.conf import settings
from django.db import connections

from tailrace.backends.private_connection import close_private_connections

HOSTS = Path(__file__).parent / "peers"
_numbers = itertools.count(1)


def run_host(name: str, url: str, requests: int) -> Any:
    """Have a tool fill the database at ``url``; returns what it says is in it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DJANGO")}
    done = subprocess.run(
        [sys.executable, str(HOSTS / f"{name}_host.py"), url, str(requests)],
        env=environment,
        cwd=HOSTS,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout)


@contextmanager
def peer_alias(url: str) -> Iterator[str]:
    """Add an alias for the database at ``url`` to ``DATABASES``."""
    alias = f"peer_{next(_numbers)}"
    settings.DATABASES[alias] = dj_database_url.parse(url)
    connections.configure_settings(settings.DATABASES)
    try:
        yield alias
    finally:
        close_private_connections()
        connections[alias].close()
        del connections[alias]
        del settings.DATABASES[alias]
