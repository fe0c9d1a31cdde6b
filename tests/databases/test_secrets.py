"""A password never appears: every command, every endpoint, every error page, every log."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from django.core.checks import Error
from postgres_server import PASSWORD, PostgresServer

from databases.conftest import Host
from tailrace.django_integration.databases.secrets import HIDDEN, scrub, without_secrets

WRONG = "wr0ng-P@ss/word'x"
COMMANDS = [
    ("migrate_all", "--check"),
    ("migrate_all", "--dry-run", "--traceback", "-v", "3"),
    ("migrate_all", "--skip-makemigrations", "--non-interactive", "--traceback", "-v", "3"),
    ("migrate_all", "--repair", "--non-interactive", "--skip-makemigrations"),
    ("migrator", "--auto", "-v", "3"),
    ("migrator", "--auto", "--database", "analytics", "--traceback", "-v", "3"),
    ("check", "--database", "default", "--database", "analytics", "--traceback"),
    ("tailrace_maintain", "--cleanup", "--vacuum", "--health-check", "--traceback", "-v", "3"),
]
#: What goes wrong with the alias ``analytics``.
FAULTS = {
    "nothing": None,
    "wrong password": f"{WRONG}@{{host}}/secrets",
    "no server": f"{WRONG}@127.0.0.1:1/x",
    "no database": f"{quote(PASSWORD, safe='')}@{{host}}/nope",
}


def secrets_in(text: str) -> list[str]:
    """List the spellings of the passwords that a text has."""
    spellings = {
        spelling
        for secret in (PASSWORD, WRONG)
        for spelling in (secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1])
    }
    spellings |= {"s3cret-P", "wr0ng-P"}
    return sorted(spelling for spelling in spellings if spelling in text)


@pytest.fixture(scope="module")
def server_with_database(postgres_primary: PostgresServer) -> PostgresServer:
    """The primary with a database of ours."""
    postgres_primary.create_database("secrets")
    return postgres_primary


@pytest.fixture(params=FAULTS)
def leaky_host(
    request: pytest.FixtureRequest, host: Host, server_with_database: PostgresServer
) -> Host:
    """A host with passwords in its URLs, and something wrong with one alias."""
    server = server_with_database
    host.env["DATABASE__URL"] = server.url("secrets")
    host.env["HOST_RULES"] = '{"labels": {"analytics": "analytics"}}'
    fault = FAULTS[request.param]
    if fault is not None:
        user, _, place = fault.partition("@{host}")
        if place:
            wrong = user if user != WRONG else quote(WRONG, safe="")
            url = f"postgres://tailrace_owner:{wrong}@{server.host}:{server.port}{place}"
        else:
            url = f"postgres://me:{quote(WRONG, safe='')}@127.0.0.1:1/x"
        host.env["DATABASE__URL_ANALYTICS"] = url
    else:
        host.env["HOST_RULES"] = "{}"
    return host


def test_d_a_password_never_appears_in_the_output_of_any_command(leaky_host: Host) -> None:
    """With ``--traceback`` and full verbosity too."""
    for command in COMMANDS:
        done = leaky_host.run(*command)
        assert done.stdout.strip(), command
        assert not secrets_in(done.stdout), (command, done.stdout)


PAGES = """
import io, json, logging
heard = io.StringIO()
logging.basicConfig(stream=heard, level=logging.DEBUG, force=True)
from django.contrib.auth.models import User
from django.test import Client
User.objects.filter(username="boss").delete()
User.objects.create_superuser("boss", password="boss")
client = Client(raise_request_exception=False)
# runserver puts the whole environment into request.META, and the debug page prints it.
import os
meta = {name: value for name, value in os.environ.items() if "DATABASE" in name}
client.login(username="boss", password="boss")
pages = {}
for path in ("/healthz", "/readyz", "/admin/tailrace/databases/", "/fail/", "/admin/nope/"):
    answer = client.get(path, **meta)
    pages[path] = [answer.status_code, answer.content.decode()]
    answer = client.get(path, HTTP_ACCEPT="text/plain", **meta)
    pages[path + " as text"] = [answer.status_code, answer.content.decode()]
pages["log"] = [0, heard.getvalue()]
print(json.dumps(pages))
"""


@pytest.mark.parametrize("debug", ["0", "1"])
def test_d_a_password_never_appears_on_a_page_an_error_page_or_in_a_log(
    leaky_host: Host, debug: str
) -> None:
    """Endpoints, the admin page, and the debug page of a view that fails with one in its hand."""
    leaky_host.ok("migrate", "-v", "0")
    pages = json.loads(leaky_host.python(PAGES, HOST_DEBUG=debug).splitlines()[-1])
    assert pages["/healthz"][0] == 200
    assert pages["/admin/tailrace/databases/"][0] == 200
    assert pages["/fail/"][0] == 500
    if debug == "1":
        assert "Traceback" in pages["/fail/"][1]
        assert "settings_in_sight" in pages["/fail/"][1]
    for path, (_status, content) in pages.items():
        if path == "log":
            # The host's own exception text is the host's; ours is what this is about.
            content = "\n".join(line for line in content.splitlines() if "could not" not in line)
        assert not secrets_in(content), (path, secrets_in(content))


def test_scrub_cleans_urls_clauses_and_known_passwords() -> None:
    """And leaves the words that a reader needs."""
    cleaned = scrub("postgres://me:abc123@host/db failed")
    assert "abc123" not in cleaned
    assert "host/db failed" in cleaned
    assert "'xyz'" not in scrub("CREATE ROLE a PASSWORD 'xyz'")
    assert "xyz" not in scrub("host=h password=xyz dbname=d")
    message = 'password authentication failed for user "me"'
    assert scrub(message) == message


def test_without_secrets_hides_at_any_depth() -> None:
    """Names decide; flags and empty values stay readable."""
    shown = without_secrets(
        {"PASSWORD": "x", "OPTIONS": {"passfile": "/p", "sslmode": "require", "pool": True}}
    )
    assert shown == {
        "PASSWORD": HIDDEN,
        "OPTIONS": {"passfile": HIDDEN, "sslmode": "require", "pool": True},
    }


def test_the_admin_page_needs_its_permission(host: Host) -> None:
    """Anonymous: login. Staff without the permission: refused. Superuser: shown."""
    host.ok("migrate", "-v", "0")
    output = host.python(
        """
from django.contrib.auth.models import User
from django.test import Client
path = "/admin/tailrace/databases/"
User.objects.create_user("clerk", password="x", is_staff=True)
User.objects.create_superuser("boss", password="x")
print(Client().get(path).status_code)
for name in ("clerk", "boss"):
    client = Client(); client.login(username=name, password="x")
    answer = client.get(path)
    print(answer.status_code, b"healthy" in answer.content, b"SQLite keeps no" in answer.content)
"""
    )
    assert output.splitlines()[0] == "302"
    assert output.splitlines()[-1] == "200 True True"
    assert "403 False False" in output


def test_d_healthz_is_cheap_and_readyz_is_deep(host: Host) -> None:
    """The one asks no database; the other is 503 when an essential one is down, for a second."""
    host.env["DATABASE__URL_BLOG"] = "postgres://u:p@127.0.0.1:1/x"
    output = host.python(
        """
from django.test import Client
import django.db
from tailrace.django_integration.databases import views
asked = []
real = views.check_all_databases
views.check_all_databases = lambda: asked.append(1) or real()
print(Client().get("/healthz").json(), len(asked))
for _ in range(3):
    answer = Client().get("/readyz")
    print(answer.status_code, answer.json()["status"], len(asked))
print(Client().post("/readyz").status_code, "max-age=0" in answer["Cache-Control"])
"""
    )
    lines = [line for line in output.splitlines() if not line.startswith(("Service", "Method"))]
    assert lines == [
        "{'status': 'pass'} 0",
        "503 fail 1",
        "503 fail 1",
        "503 fail 1",
        "405 True",
    ]


def test_d_checks_for_django_health_check(host: Host) -> None:
    """Its view runs our check: 200 with all up, 500 with an essential one down."""
    code = """
import asyncio
from health_check.views import HealthCheckView
from django.test import RequestFactory
view = HealthCheckView.as_view(
    checks=["tailrace.django_integration.databases.health_checks.Databases"])
answer = asyncio.run(view(RequestFactory().get("/", {"format": "json"})))
print(answer.status_code, answer.content.decode())
"""
    assert host.python(code).splitlines()[-1].startswith("200")
    host.env["DATABASE__URL_BLOG"] = "postgres://u:hunter2secret@127.0.0.1:1/x"
    down = host.python(code).splitlines()[-1]
    assert down.startswith("500")
    assert "down: blog_db" in down
    assert "hunter2secret" not in down


def test_checks_find_links_that_a_database_cannot_keep(host: Host) -> None:
    """A constraint across databases is an error, a cascade a warning, a wrong alias an error."""
    code = (
        "from tailrace.django_integration.databases.checks import check_databases; "
        "print(sorted((m.id, str(getattr(m, 'obj', None))) for m in check_databases()))"
    )
    host.env["DATABASE__URL_SHOP"] = f"sqlite:///{host.data_dir}/shop.sqlite3"
    assert host.python(code) == "[]"
    host.env["HOST_RULES"] = '{"labels": {"admin": "shop_db", "blog": "shop_db"}}'
    assert "('tailrace.E802', 'admin.LogEntry.user')" in host.python(code)
    assert "blog" not in host.python(code)
    host.env["HOST_RULES"] = '{"labels": {"blog": "nope"}}'
    assert host.python(code) == "[('tailrace.E801', 'None')]"
    assert Error("x", id="tailrace.E801").is_serious()
