"""Fixture: a private MariaDB (or MySQL) for the whole run.

Skipped, with the reason, where the machine has no server or Python has no ``mysqlclient``: the
ORM reaches these databases through Django alone, and no wheel ships a server.
``TAILRACE_TEST_MYSQL_DSN`` (``mysql://user:password@host:port/database``, an empty database)
names one that runs elsewhere.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

DSN_VARIABLE = "TAILRACE_TEST_MYSQL_DSN"
START_TIMEOUT_SECONDS = 40.0


@pytest.fixture(scope="session")
def mariadb_settings() -> Iterator[dict[str, Any]]:
    """What ``DATABASES`` needs to reach an empty database on it."""
    if importlib.util.find_spec("MySQLdb") is None:
        pytest.skip("needs mysqlclient: apt-get install libmariadb-dev; pip install mysqlclient")
    external = os.environ.get(DSN_VARIABLE)
    if external:
        yield _from_url(external)
        return
    programs = [shutil.which(name, path=_path()) for name in ("mariadb-install-db", "mariadbd")]
    if None in programs:
        pytest.skip(f"no mariadbd on PATH: apt-get install mariadb-server, or set {DSN_VARIABLE}")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-mariadb-", dir="/tmp"))
    try:
        yield from _served(folder, *map(str, programs))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _served(folder: Path, install: str, serve: str) -> Iterator[dict[str, Any]]:
    data, socket = folder / "data", folder / "socket"
    common = ["--no-defaults", f"--datadir={data}", f"--user={getpass.getuser()}"]
    options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run([install, *common, *options], check=True, capture_output=True, timeout=60)
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        [
            *(serve, *common, f"--socket={socket}", "--skip-networking"),
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"),
            *("--character-set-server=utf8mb4", "--performance-schema=OFF"),
            f"--pid-file={folder / 'pid'}",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        _create_database(socket, server, folder / "log")
        yield {
            "ENGINE": "django.db.backends.mysql",
            "NAME": "contract",
            "USER": "root",
            "HOST": str(socket),
            "OPTIONS": {"charset": "utf8mb4"},
        }
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


def _create_database(socket: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    import MySQLdb

    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            connection = MySQLdb.connect(unix_socket=str(socket), user="root")
            break
        except MySQLdb.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MariaDB did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)
    connection.query("CREATE DATABASE contract CHARACTER SET utf8mb4")
    connection.close()


def _from_url(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": {"charset": "utf8mb4"},
    }


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
