"""A private MariaDB server, where its programs and Django's driver for it are installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from postgres_server import free_port

START_TIMEOUT_SECONDS = 30.0
PASSWORD = "maria-s3cret"


def why_not() -> str:
    """Say what this machine lacks for it; empty if nothing."""
    for program in ("mariadbd", "mariadb-install-db"):
        if _find(program) is None:
            return f"no {program} on PATH; install the package mariadb-server"
    if importlib.util.find_spec("MySQLdb") is None:
        return "Django's driver for MySQL and MariaDB is not installed; pip install mysqlclient"
    return ""


class MariaDBServer:
    """One server process with its own data folder and port."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tailrace-mariadb-"))
        self.port = free_port()
        self.user = "mysql" if os.geteuid() == 0 and _has_user("mysql") else None
        if self.user is not None:
            shutil.chown(self.root, self.user)
        who = [f"--user={self.user}"] if self.user is not None else []
        subprocess.run(
            [
                *(str(_find("mariadb-install-db")), "--no-defaults", f"--datadir={self.root}/data"),
                *("--auth-root-authentication-method=normal", "--skip-test-db", *who),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        setup = self.root / "setup.sql"
        setup.write_text(
            f"CREATE USER 'host'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO 'host'@'127.0.0.1';\nCREATE DATABASE erp;\n"
        )
        setup.chmod(0o644)
        log = (self.root / "log").open("wb")
        self._process = subprocess.Popen(
            [
                *(str(_find("mariadbd")), "--no-defaults", f"--datadir={self.root}/data", *who),
                *(f"--socket={self.root}/socket", f"--port={self.port}", f"--init-file={setup}"),
                *("--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0"),
                *("--performance-schema=ON", f"--pid-file={self.root}/pid"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        log.close()
        self._wait()

    def url(self, database: str) -> str:
        """Return a database URL."""
        return f"mysql://host:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, *statements: str) -> None:
        """Run statements in a database."""
        import MySQLdb

        connection = MySQLdb.connect(
            host="127.0.0.1", port=self.port, user="host", password=PASSWORD, database=database
        )
        for statement in statements:
            connection.cursor().execute(statement)
        connection.commit()
        connection.close()

    def remove(self) -> None:
        """Stop and delete everything."""
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self.root, ignore_errors=True)

    def _wait(self) -> None:
        import MySQLdb

        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                self.execute("erp", "SELECT 1")
            except MySQLdb.OperationalError:
                log = (self.root / "log").read_text(errors="replace")[-1500:]
                assert self._process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)
            else:
                return


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
