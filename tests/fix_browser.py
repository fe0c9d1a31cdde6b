"""Fixtures: a real headless browser, found on this machine.

Selenium speaks to Chromium through its driver; both come from the system's packages (``apt-get
install chromium chromium-driver``) and have the same version there. Nothing is downloaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVERS = ("chromedriver", "chromium.chromedriver")
PAGE_TIMEOUT_SECONDS = 30
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)


def _find(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


def _programs() -> tuple[str, str]:
    browser, driver = _find(BROWSERS), _find(DRIVERS)
    if browser is None or driver is None:
        missing = "browser" if browser is None else "chromedriver"
        pytest.skip(f"no {missing} on PATH: apt-get install chromium chromium-driver")
    return browser, driver


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A fresh browser with no history: a ``selenium.webdriver.Chrome``."""
    program, driver_program = _programs()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*_ARGUMENTS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver_program)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(PAGE_TIMEOUT_SECONDS)
    yield driver
    driver.quit()
