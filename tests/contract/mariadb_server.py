"""A private MariaDB or MySQL server, from the programs on PATH."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 15.0
_SYSTEM_PATH = "/usr/sbin:/usr/local/sbin"


class NoMariaDB(RuntimeError):
    """This machine has no MariaDB, or Python has no driver for it."""


class MariaDBServer:
    """One server process that listens on a Unix socket only, where its user is the owner."""

    def __init__(self) -> None:
        """Make a new, empty cluster.

        Raises:
            NoMariaDB: says what to install.
        """
        self._server = _program("mariadbd", "mysqld")
        install = _program("mariadb-install-db", "mysql_install_db")
        # A Unix socket's path must be short, so not the test's own folder.
        self.root = Path(tempfile.mkdtemp(prefix="tailrace-mariadb-"))
        self.socket = self.root / "sock"
        self._as_user = ["--user=root"] if os.geteuid() == 0 else []
        self._process: subprocess.Popen[bytes] | None = None
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        done = subprocess.run(
            [
                install,
                "--no-defaults",
                f"--datadir={self.root / 'data'}",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={self.user}",
                "--skip-test-db",
                *self._as_user,
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode != 0:
            self.remove()
            raise RuntimeError(f"{install} failed:\n{done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it did not; carries the end of its log.
        """
        log_path = self.root / "log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._server,
                    "--no-defaults",
                    f"--datadir={self.root / 'data'}",
                    f"--socket={self.socket}",
                    f"--pid-file={self.root / 'pid'}",
                    "--skip-networking",
                    "--innodb-flush-log-at-trx-commit=0",
                    "--innodb-buffer-pool-size=32M",
                    "--character-set-server=utf8mb4",
                    *self._as_user,
                ],
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
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
                return bool(probe.recv(1))
            except OSError:
                return False


def use_pymysql() -> None:
    """Let Django's MySQL backend use PyMySQL where mysqlclient, which needs a compiler, is not.

    Raises:
        NoMariaDB: neither is installed.
    """
    try:
        import MySQLdb  # noqa: F401

        return
    except ImportError:
        pass
    try:
        import pymysql
    except ImportError as error:
        raise NoMariaDB("no driver for MariaDB: pip install PyMySQL, or mysqlclient") from error
    pymysql.install_as_MySQLdb()


def _program(*names: str) -> str:
    path = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}"
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    raise NoMariaDB(f"no {names[0]} on PATH: install your system's package mariadb-server")
