"""Backfills in a real browser: start, pause, resume, cancel; two tabs, two people, one state.

The site sends a policy that allows no inline script and no inline style.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fix_admin_site import AdminSite
from servers import free_port

pytestmark = pytest.mark.browser

START_TIMEOUT_SECONDS = 30
WAIT_SECONDS = 20
SEED = """
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Permission
anna = User.objects.create_superuser("anna")
ben = User.objects.create_user("ben", is_staff=True)
ben.user_permissions.add(Permission.objects.get(codename="run_backfill"))
for user in (anna, ben):
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    print(session.session_key)
"""
WORK = """
import time
from tailrace.django_integration.backfills import service
end = time.monotonic() + 120
while time.monotonic() < end:
    for record in service.store().running():
        service.work(record.uid, 1)
    time.sleep(0.05)
"""
PAYLOAD = "<img src=x onerror=window.owned=1>"
Until = Callable[[], Any]


class BackfillSite(AdminSite):
    """The site with the slow kind."""

    def environment(self, fault: str = "") -> dict[str, str]:
        return {**super().environment(fault), "DJANGO_SETTINGS_MODULE": "admin.backfill_site"}


class Site:
    """A running site, and the sessions of two people."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._site = BackfillSite(path.parent, f"sqlite:///{path}")
        self._worker: subprocess.Popen[str] | None = None
        self.anna, self.ben = self._site.python(SEED).split()[-2:]
        port = free_port()
        self._site.start("runserver", "--noreload", f"127.0.0.1:{port}")
        self.url = f"http://127.0.0.1:{port}/admin/tailrace/backfill/"
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.1)

    def start_worker(self) -> None:
        """Have a process work on whatever runs."""
        self._worker = self._site.start("shell", "-v", "0", "-c", WORK)

    def stop_worker(self) -> None:
        """Have nobody work."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            self._worker = None

    def age(self) -> None:
        """Have all backfills be started, and written of in their logs, a minute earlier."""
        with closing(sqlite3.connect(self._path, timeout=WAIT_SECONDS)) as connection:
            connection.execute(
                "UPDATE tailrace_backfill SET log = '', "
                "created_at = strftime('%Y-%m-%d %H:%M:%f', created_at, '-60 seconds')"
            )
            connection.commit()

    def stop(self) -> None:
        """End all processes."""
        self._site.stop()

    def log_in(self, page: Any, session: str) -> None:
        """Be somebody from now on."""
        if not page.current_url.startswith("http"):
            page.get(self.url)
        page.add_cookie({"name": "sessionid", "value": session, "path": "/"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, admin_template: Path) -> Iterator[Site]:
    """See :class:`Site`; one server for all of these tests."""
    path = tmp_path_factory.mktemp("backfills") / "default.sqlite3"
    shutil.copy(admin_template, path)
    site = Site(path)
    yield site
    site.stop()


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    """Anna's browser; at the end it has nothing to complain of."""
    site.log_in(browser, site.anna)
    yield browser
    site.stop_worker()
    assert complaints(browser) == []
    assert browser.execute_script("return window.owned === undefined")


def complaints(page: Any) -> list[str]:
    """What the browser has refused or could not load."""
    return [
        entry["message"]
        for entry in page.get_log("browser")
        if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ]


def one(page: Any, selector: str) -> Any:
    """The first element of a CSS selector."""
    return page.find_element("css selector", selector)


def text(page: Any, selector: str) -> str:
    """What it says, read at once: the page changes all the time."""
    script = "return document.querySelector(arguments[0]).textContent"
    return str(page.execute_script(script, selector))


def until(condition: Until, what: str) -> Any:
    """Wait for something to become true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.05)
    return found


def phase(page: Any) -> str:
    """What state the page shows."""
    return text(page, "[data-phase]")


def press(page: Any, selector: str) -> None:
    """Click, and wait for the page that this leads to."""
    page.execute_script("window.isOld = true")
    one(page, selector).click()
    script = "return window.isOld === undefined && document.readyState === 'complete'"
    until(lambda: page.execute_script(script), f"another page after {selector}")


def press_button(page: Any, action: str) -> str:
    """Press a button of a backfill's page; return the message."""
    if action == "cancel":
        one(page, "[data-action=cancel] summary").click()
    press(page, f"button[value={action}]")
    return text(page, ".messagelist li").strip()


def start(page: Any, site: Site, **given: str) -> str:
    """Fill in the form, look at the preview, confirm; return the page's address."""
    page.get(f"{site.url}add/slow/")
    for name, value in {"measurement": "request", **given}.items():
        field = one(page, f"[name=p-{name}]")
        field.clear()
        field.send_keys(value)
    press(page, "input[value=Preview]")
    press(page, "input[name=start]")
    assert text(page, ".messagelist li").strip() == "It is started."
    return str(page.current_url)


def shown(page: Any, action: str) -> bool:
    """Whether a button can be pressed."""
    return bool(one(page, f"[data-action={action}]").is_displayed())


def test_from_the_list_to_the_end(page: Any, site: Site) -> None:
    """Chosen, asked for, previewed, confirmed; paused, resumed, done: without a reload."""
    page.get(site.url)
    press(page, ".object-tools a")
    press(page, "a[href$='add/slow/']")
    assert one(page, "[name=p-measurement]").get_attribute("list") is not None
    for name, value in {"measurement": PAYLOAD, "steps": "8", "seconds": "0.4"}.items():
        one(page, f"[name=p-{name}]").clear()
        one(page, f"[name=p-{name}]").send_keys(value)
    press(page, "input[value=Preview]")
    assert "8,000" in text(page, ".tailrace-estimate")
    press(page, "input[name=change]")
    assert one(page, "[name=p-steps]").get_attribute("value") == "8"
    assert one(page, "[name=p-start]").get_attribute("value") == "2026-01-31T12:00"
    press(page, "input[value=Preview]")
    press(page, "input[name=start]")
    assert phase(page) == "planning"
    assert not one(page, "[data-refresh]").is_displayed()

    site.start_worker()
    until(lambda: phase(page) == "running", "the worker plans")
    until(lambda: float(one(page, "progress").get_attribute("value")) > 0.1, "steps are done")
    until(lambda: text(page, "[data-figure=remaining]").startswith("about"), "remaining time")
    assert f"slept through {PAYLOAD}" in text(page, "[data-log]")
    assert "paused" in press_button(page, "pause")
    assert (phase(page), shown(page, "resume"), shown(page, "pause")) == ("paused", True, False)
    assert press_button(page, "resume") == "It goes on."
    page.execute_script("window.isSame = true")
    until(lambda: phase(page) == "done", "the end")
    assert page.execute_script("return window.isSame")
    assert text(page, "[data-figure=steps]") == "8 of 8"
    assert "Next, look at" in text(page, "[data-notes]")
    assert not any(shown(page, action) for action in ("pause", "resume", "cancel", "retry"))


def test_two_tabs_and_two_people_see_one_state(page: Any, site: Site) -> None:
    """What one does, the other sees; what comes too late is told so, and changes nothing."""
    site.start_worker()
    address = start(page, site, steps="40", seconds="0.3")
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    page.get(address)
    second = page.current_window_handle
    until(lambda: phase(page) == "running", "the second tab sees it run")
    # Ben's tab: it stays as it was, as its scripts cannot ask the server any more.
    site.log_in(page, site.ben)
    page.get(address)
    page.execute_script("window.fetch = () => new Promise(() => {})")
    until(lambda: phase(page) == "running", "Ben sees it run")

    page.switch_to.window(first)
    site.log_in(page, site.anna)
    page.get(address)
    assert "paused" in press_button(page, "pause")

    page.switch_to.window(second)
    assert phase(page) == "running"
    assert "It is paused by now" in press_button(page, "cancel")
    assert phase(page) == "paused"
    site.log_in(page, site.ben)
    page.get(address)
    assert press_button(page, "resume") == "It goes on."
    assert "running by ben" in text(page, "[data-log]")

    page.switch_to.window(first)
    until(lambda: phase(page) == "running", "the first tab sees it go on, by itself")
    assert shown(page, "pause")
    assert "cancelled" in press_button(page, "cancel")
    page.switch_to.window(second)
    until(lambda: phase(page) == "cancelled", "the second tab sees its end")
    assert not shown(page, "resume")
    page.get(site.url)
    newest = text(page, "#result_list tbody tr")
    assert "cancelled" in newest
    assert "anna" in newest


def test_no_step_is_lost_between_two_people(page: Any, site: Site) -> None:
    """One pauses in her tab, the other goes on in his, again and again; all is done once."""
    site.start_worker()
    address = start(page, site, steps="24", seconds="0.3")
    tabs = [page.current_window_handle]
    page.switch_to.new_window("tab")
    tabs.append(page.current_window_handle)
    for _ in range(3):
        for tab, session, action in ((0, site.anna, "pause"), (1, site.ben, "resume")):
            page.switch_to.window(tabs[tab])
            site.log_in(page, session)
            page.get(address)
            assert "by now" not in press_button(page, action)
    for tab in tabs:
        page.switch_to.window(tab)
        until(lambda: phase(page) == "done", "the end in both tabs")
        assert text(page, "[data-figure=steps]") == "24 of 24"
        assert "done: 24000 written" in text(page, "[data-log]")
        assert text(page, "[data-log]").count("paused by anna") == 3
        assert text(page, "[data-log]").count("running by ben") == 3


def test_a_server_that_is_gone_is_told(page: Any, site: Site) -> None:
    """And the page goes on by itself; somebody who is logged out is told that."""
    start(page, site, steps="2")
    page.execute_script(
        "window.kept = window.fetch; window.fetch = () => Promise.reject(new Error('no net'))"
    )
    until(lambda: "no net" in text(page, "[data-lost]"), "the complaint")
    page.execute_script("window.fetch = window.kept")
    until(lambda: not one(page, "[data-lost]").is_displayed(), "it goes on")
    page.delete_cookie("sessionid")
    until(lambda: "not logged in" in text(page, "[data-lost]"), "the end of the session")


def test_without_javascript_and_without_a_worker(page: Any, site: Site) -> None:
    """All figures and buttons are there, a link asks again, and the page says what to run."""
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.get(f"{site.url}add/slow/")
    one(page, "[name=p-measurement]").send_keys("request")
    press(page, "input[value=Preview]")
    press(page, "input[name=start]")
    assert one(page, "[data-phase]").text == "planning"
    assert one(page, "[data-refresh]").is_displayed()
    site.age()
    press(page, "[data-refresh]")
    idle = one(page, "[data-idle]").text
    assert "No worker has done anything for 1 min" in idle
    assert "manage.py tailrace_backfill work" in idle
    press(page, "button[value=pause]")
    assert one(page, "[data-phase]").text == "paused"
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
