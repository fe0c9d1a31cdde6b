"""compose.yaml follows the compose specification, and fits the project it starts.

No Docker is needed: compose_spec is a parser that knows every key of the specification and
refuses all others, and what it does not look at (names that refer to each other, files,
commands) is looked at here.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose, PyOptions
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
LONG_RUNNING = ["web", "worker", "beat", "redis", "postgres"]
OUR_OWN = ["setup", "web", "worker", "beat", "traffic"]
# ${NAME:-default}, the one form that the file uses; $$ is a dollar sign.
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+):-([^}]*)\}")


def parse(text: str) -> dict[str, Any]:
    options = PyOptions()
    options.apply_merge = True
    compose: PyCompose = options.from_yaml(_VARIABLE.sub(r"\2", text))
    compose.validate()
    return compose.to_dict()


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "compose.yaml").read_text()


@pytest.fixture(scope="module")
def services(text: str) -> dict[str, Any]:
    return parse(text)["services"]


def command(service: dict[str, Any]) -> list[str]:
    found = service.get("command", [])
    return shlex.split(found) if isinstance(found, str) else list(found)


def test_follows_the_specification(text: str) -> None:
    compose = parse(text)
    assert set(LONG_RUNNING) <= set(compose["services"])
    assert set(compose["volumes"]) == {"redis-data", "postgres-data", "influx-data"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  init: true", "  inti: true", "inti"),
        ("condition: service_healthy", "condition: healthy", "unknown variant `healthy`"),
        ("interval: 10s", "interval: 10 seconds", "duration"),
        ("restart: unless-stopped", "restart: sometimes", "unknown variant `sometimes`"),
        ("${PORT:-8000}:8000", "99999:8000", "99999"),
        ("\nservices:", "\nservice:", "service"),
    ],
)
def test_the_parser_would_see_a_mistake(text: str, old: str, new: str, message: str) -> None:
    assert old in text
    with pytest.raises(ValueError, match=message):
        parse(text.replace(old, new, 1))


def test_only_variables_with_defaults(text: str) -> None:
    rest = _VARIABLE.sub("", text).replace("$$", "")
    assert "$" not in rest, "give every variable a default: ${NAME:-default}"


def test_dependencies_exist_and_can_become_healthy(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for target, how in service.get("depends_on", {}).items():
            assert target in services, f"{name} depends on {target}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[target], f"{name} waits for {target}"


def test_volumes_are_declared(text: str, services: dict[str, Any]) -> None:
    declared = parse(text)["volumes"]
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount["source"] if isinstance(mount, dict) else mount.split(":")[0]
            assert source in declared


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_on_is_watched_and_restarted(services: dict[str, Any], name: str) -> None:
    assert services[name]["healthcheck"]["test"]
    assert services[name]["restart"] == "unless-stopped"


def test_redis_evicts_nothing_and_keeps_its_data(services: dict[str, Any]) -> None:
    flags = command(services["redis"])
    assert "--maxmemory-policy=noeviction" in flags
    assert "--appendonly=yes" in flags


def test_nothing_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert {name: [str(port) for port in ports] for name, ports in published.items()} == {
        "web": ["127.0.0.1:8000:8000"],
        "influxdb": ["127.0.0.1:8086:8086"],
    }


def test_influxdb_starts_when_it_is_asked_for_only(services: dict[str, Any]) -> None:
    assert services["influxdb"]["profiles"] == ["influx"]
    assert not any("influxdb" in service.get("depends_on", {}) for service in services.values())


def test_the_image_is_built_from_files_that_exist(services: dict[str, Any]) -> None:
    for name in OUR_OWN:
        dockerfile = ROOT / services[name]["build"]["dockerfile"]
        copied = re.findall(r"^COPY (.+) \S+$", dockerfile.read_text(), re.MULTILINE)
        for path in " ".join(copied).split():
            assert (ROOT / path).exists(), f"{dockerfile.name} copies {path}"


def test_the_environment_is_what_the_settings_read(services: dict[str, Any]) -> None:
    settings = (ROOT / "tests/project/settings.py").read_text()
    for name in services["web"]["environment"]:
        assert f'"{name}"' in settings, f"settings.py does not read {name}"


def test_commands_name_what_exists(services: dict[str, Any]) -> None:
    setup = " ".join(command(services["setup"]))
    assert set(re.findall(r"manage\.py (\w+)", setup)) <= set(get_commands())
    for name in ("worker", "beat"):
        app = next(part for part in command(services[name]) if part.startswith("--app="))
        assert importlib.import_module(app.removeprefix("--app=")).app.main == "project"
    traffic = command(services["traffic"])
    assert importlib.import_module(traffic[traffic.index("-m") + 1])


def test_gunicorn_takes_the_flags(services: dict[str, Any]) -> None:
    program, *flags = command(services["web"])
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings"}
    done = subprocess.run(
        [sys.executable, "-m", program, "--check-config", *flags],
        cwd=ROOT / "tests",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_web_check_is_a_program(services: dict[str, Any]) -> None:
    kind, program, flag, code = services["web"]["healthcheck"]["test"]
    assert (kind, program, flag) == ("CMD", "python", "-c")
    compile(code, "healthcheck", "exec")
