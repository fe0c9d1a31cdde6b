"""The script that gets the programs which no wheel ships, with a machine made up for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "provide_system.sh"
BROWSER = ("chromium", "chromedriver")
MARIADB = ("mariadbd", "mariadb-install-db", "my_print_defaults")


class Machine:
    """A PATH with nothing on it but what the script needs, and an apt-get that writes down."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.stamp = folder / "stamp"
        self.log = folder / "apt"
        for name in ("timeout", "touch", "chmod"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.add("id", "echo ${FAKE_UID:-0}")

    def add(self, name: str, body: str = "") -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def add_apt(self, *installed: str, status: int = 0) -> None:
        made = "".join(
            f'\n: >"{self.bin / name}"; chmod +x "{self.bin / name}"' for name in installed
        )
        self.add("apt-get", f'echo "$@" >>"{self.log}"{made}\nexit {status}')

    def run(self, **environment: str) -> str:
        done = subprocess.run(
            ["/bin/sh", str(SCRIPT), str(self.stamp)],
            env={"PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def asked(self) -> list[str]:
        """Return the packages that apt-get was asked for, each time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split("recommends ")[1] for line in lines if " install " in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if any(os.path.exists(f"/usr/local/sbin/{name}") for name in (*BROWSER, *MARIADB)):
        pytest.skip("the script looks into /usr/local/sbin, and here one of its programs is there")
    return Machine(tmp_path)


def test_where_all_is_there_nothing_is_done_or_said(machine: Machine) -> None:
    machine.add_apt()
    for name in (*BROWSER, *MARIADB):
        machine.add(name)
    assert machine.run() == ""
    assert machine.stamp.exists()
    assert machine.asked() == []


def test_root_gets_what_is_missing_and_one_line_about_it(machine: Machine) -> None:
    machine.add_apt(*BROWSER, *MARIADB)
    machine.add("mariadbd")
    # Both come with the first call, so there is nothing left to do for the second.
    lines = machine.run().splitlines()
    assert lines == [
        "Installing Chromium for the tests (chromium chromium-driver); "
        "TAILRACE_TEST_INSTALL=0 keeps it from that..."
    ]
    assert machine.asked() == ["chromium chromium-driver"]
    assert machine.stamp.exists()


def test_a_failing_apt_fails_nothing(machine: Machine) -> None:
    machine.add_apt(status=100)
    output = machine.run()
    assert machine.asked() == [
        "chromium chromium-driver",
        "mariadb-server-core mariadb-client-core",
    ]
    assert output.count("the tests of") == 2
    assert machine.stamp.exists()


@pytest.mark.parametrize("environment", [{"FAKE_UID": "1000"}, {"TAILRACE_TEST_INSTALL": "0"}])
def test_who_may_not_or_will_not_is_told_what_is_skipped(
    machine: Machine, environment: dict[str, str]
) -> None:
    machine.add_apt()
    output = machine.run(**environment)
    assert "No Chromium here: its tests will be skipped" in output
    assert "apt-get install mariadb-server-core mariadb-client-core" in output
    assert machine.asked() == []
    assert not machine.stamp.exists()
