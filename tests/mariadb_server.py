"""A private MariaDB (or MySQL) server, from the programs on this machine.

Its driver is PyMySQL, which is pure Python: mysqlclient needs a compiler.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pymysql
from postgres_server import free_port

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 15.0
CONNECT_TIMEOUT_SECONDS = 10
USER = "tailrace_owner"
#: Unmistakable in any output.
PASSWORD = "maria-s3cret"
_SYSTEM_PATH = "/usr/sbin:/usr/local/sbin"


class NoMariaDB(RuntimeError):
    """This machine has no MariaDB server programs."""


def use_pymysql() -> None:
    """Let Django's MySQL backend of this process have PyMySQL; call it before Django loads it."""
    pymysql.install_as_MySQLdb()


def execute(url: str, *statements: str) -> None:
    """Run statements in the database of a URL, and commit.

    Raises:
        pymysql.OperationalError: the server does not answer.
    """
    parts = urlsplit(url)
    connection = pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.lstrip("/") or None,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


class MariaDBServer:
    """One server process with its own data folder and port; listens on 127.0.0.1 only."""

    def __init__(self) -> None:
        """Make a new, empty cluster.

        Raises:
            NoMariaDB: says what to install.
        """
        self._program = _find("mariadbd", "mysqld")
        install = _find("mariadb-install-db", "mysql_install_db")
        # A Unix socket's path must be short, so not the test's own folder.
        self.root = Path(tempfile.mkdtemp(prefix="tailrace-mariadb-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._options = [
            "--no-defaults",
            f"--datadir={self.root / 'data'}",
            f"--user={pwd.getpwuid(os.geteuid()).pw_name}",
        ]
        done = subprocess.run(
            [install, *self._options, "--auth-root-authentication-method=normal", "--skip-test-db"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode != 0:
            self.remove()
            raise RuntimeError(f"{install} failed:\n{done.stdout}{done.stderr}")

    def url(self, database: str = "") -> str:
        """Return the URL of a database; of the server, if none is named."""
        return f"mysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it did not; carries the end of its log.
        """
        setup = self.root / "setup.sql"
        setup.write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1';\n"
        )
        log_path = self.root / "log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._program, *self._options, f"--init-file={setup}"),
                    *(f"--socket={self.root / 'socket'}", f"--pid-file={self.root / 'pid'}"),
                    *("--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve"),
                    *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"),
                    # What get_slow_queries() reads is kept only with this on.
                    *("--character-set-server=utf8mb4", "--performance-schema=ON"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                tail = log_path.read_text(errors="replace")[-2000:]
                self.remove()
                raise RuntimeError(f"MariaDB did not start:\n{tail}")
            time.sleep(0.05)

    def remove(self) -> None:
        """Stop the server and delete everything."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            execute(self.url(), "SELECT 1")
        except pymysql.OperationalError:
            return False
        return True


def _find(*names: str) -> str:
    path = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}"
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    raise NoMariaDB(
        f"no {names[0]} on PATH: apt-get install mariadb-server-core mariadb-client-core"
    )
