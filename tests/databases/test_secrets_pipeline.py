"""A password never appears: the pipeline's own commands, with a database or a Redis that fails."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from servers import RedisServer

from databases.conftest import Host

SECRET = "r3dis-S&cret/w0rd"
SPELLINGS = (SECRET, quote(SECRET, safe=""), quote(SECRET), "r3dis-S", "w0rd")
COMMANDS = [
    ("tailrace_status", "--json", "--traceback", "-v", "3"),
    ("tailrace_drain", "--until-empty", "--timeout", "2", "--traceback", "-v", "3"),
    ("tailrace_replay", "--all", "--traceback", "-v", "3"),
    ("check", "--traceback"),
]
ESCAPED = quote(SECRET, safe="")
#: What is wrong with Redis; ``{port}`` is that of a server with another password.
REDIS_FAULTS = {
    "no server": f"redis://me:{ESCAPED}@127.0.0.1:1/0",
    "wrong password": f"redis://:{ESCAPED}@127.0.0.1:{{port}}/0",
    "not escaped": f"redis://:{SECRET}@127.0.0.1:{{port}}/0",
    "as a parameter": f"redis://127.0.0.1:{{port}}/0?password={ESCAPED}",
    "no scheme": f"//:{ESCAPED}@127.0.0.1:{{port}}/0",
}


def check_commands(host: Host) -> list[int]:
    """Run every command with all libraries' logs on; return the exit statuses."""
    statuses = []
    for command in COMMANDS:
        done = host.run(*command, HOST_LOG_LEVEL="DEBUG")
        assert done.stdout.strip(), command
        shown = [spelling for spelling in SPELLINGS if spelling in done.stdout]
        assert not shown, (command, shown, done.stdout)
        statuses.append(done.returncode)
    return statuses


@pytest.mark.parametrize("fault", REDIS_FAULTS)
def test_d_a_password_of_redis_never_appears_when_redis_fails(
    host: Host, make_redis_server: Callable[..., RedisServer], fault: str
) -> None:
    """Neither in the output nor in a log, with ``--traceback`` and at level DEBUG."""
    url = REDIS_FAULTS[fault]
    if "{port}" in url:
        server = make_redis_server()
        with server.client() as client:
            client.config_set("requirepass", "another")
        url = url.replace("{port}", str(server.port))
    host.settings = "databases.host.settings.recording"
    host.env["HOST_REDIS_URL"] = url
    host.ok("migrate", "--skip-checks", "-v", "0")
    statuses = check_commands(host)
    assert any(statuses[:2]), "Redis did not fail"


def test_d_a_password_of_a_database_never_appears_when_storage_fails(
    host: Host, redis_url: str
) -> None:
    """The storage alias is away; its URL has the password."""
    host.settings = "databases.host.settings.recording"
    host.env["HOST_REDIS_URL"] = redis_url
    host.env["HOST_STORAGE_ALIAS"] = "telemetry"
    host.env["DATABASE__URL_TELEMETRY"] = f"postgres://me:{ESCAPED}@127.0.0.1:1/gone"
    assert any(check_commands(host)[:3]), "the database did not fail"
    for command in (
        ("migrate_all", "--dry-run"),
        ("migrator", "--auto", "--database", "telemetry"),
        ("check", "--database", "telemetry"),
    ):
        done = host.run(*command, "--traceback", HOST_LOG_LEVEL="DEBUG")
        assert done.stdout.strip(), command
        assert not [word for word in SPELLINGS if word in done.stdout], (command, done.stdout)
