"""The admin's pages in a real browser: read, page, filter, replay, and take no orders."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import pytest
from fix_admin_site import AdminSite
from servers import free_port

pytestmark = pytest.mark.browser

START_TIMEOUT_SECONDS = 30
PAGE_TIMEOUT_SECONDS = 20
PAYLOAD = '<script>window.owned = 1</script><img src=x onerror="window.owned = 1">'
SEED = f"""
from django.contrib.auth.models import User
User.objects.create_superuser("root", "root@example.com", "pw")
payload = {PAYLOAD!r}
trace = "4bf92f3577b34da6a3ce929d0e0e4736"
more = dict(tags={{"path": payload}}, fields={{"user_agent": payload, "duration_ms": 12.5}})
seed.store([seed.event(n, "request", trace_id=trace, **dict(more)) for n in range(3)])
seed.store([seed.event(n, "query") for n in range(100, 160)])
seed.store([seed.event(9, "exception", tags={{"type": payload}},
    fields={{"fingerprint": "f", "message": payload, "location": payload}})])
seed.park(range(200, 204), "request", payload)
seed.park(range(204, 206), "checkout", "too long")
"""


@pytest.fixture
def server(sqlite_admin_site: AdminSite) -> str:
    """The address of a running admin with events and dead letters, some of them hostile."""
    sqlite_admin_site.python(SEED)
    port = free_port()
    sqlite_admin_site.start("runserver", "--noreload", f"127.0.0.1:{port}")
    address = f"http://127.0.0.1:{port}/admin/"
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)
    return address


@pytest.fixture
def page(browser: Any, server: str) -> Any:
    """A browser in which a superuser has logged in."""
    browser.get(server)
    one(browser, "[name=username]").send_keys("root")
    one(browser, "[name=password]").send_keys("pw")
    press(browser, one(browser, "[type=submit]"))
    return browser


def one(page: Any, selector: str) -> Any:
    """The first element of a CSS selector."""
    return page.find_element("css selector", selector)


def every(page: Any, selector: str) -> list[Any]:
    """All elements of a CSS selector."""
    found: list[Any] = page.find_elements("css selector", selector)
    return found


def texts(page: Any, selector: str) -> list[str]:
    """What a person reads in them."""
    return [element.text for element in every(page, selector)]


def press(page: Any, element: Any) -> None:
    """Click on what leads to another page, and wait for that page."""
    before = one(page, "html").id
    element.click()
    wait_for_page_after(page, before)


def wait_for_page_after(page: Any, before: str) -> None:
    """Wait until the page with this root has gone and the next one is complete."""
    deadline = time.monotonic() + PAGE_TIMEOUT_SECONDS
    while True:
        roots = every(page, "html")
        is_other = bool(roots) and roots[0].id != before
        if is_other and page.execute_script("return document.readyState") == "complete":
            return
        assert time.monotonic() < deadline, "the click led nowhere"
        time.sleep(0.05)


def link(page: Any, text: str) -> None:
    """Follow a link with this text in it."""
    press(page, page.find_element("partial link text", text))


def is_harmless(page: Any) -> bool:
    """No payload ran, and the browser has nothing to complain of."""
    complaints = [
        entry
        for entry in page.get_log("browser")
        if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ]
    assert complaints == []
    return bool(page.execute_script("return window.owned === undefined"))


def test_reading_events(page: Any, server: str) -> None:
    """From the index to a list, a page further, back, through a filter, to a trace."""
    page.get(server)
    link(page, "Events")
    assert len(every(page, "#result_list tbody tr")) == 50
    link(page, "Older")
    assert len(every(page, "#result_list tbody tr")) == 14
    link(page, "Newer")
    assert len(every(page, "#result_list tbody tr")) == 50
    link(page, "request")
    assert len(every(page, "#result_list tbody tr")) == 3
    assert is_harmless(page)
    assert PAYLOAD[:40] in texts(page, ".tailrace-tag")[0]
    one(page, "input[name=tag]").send_keys("n=2")
    press(page, every(page, ".tailrace-filter button")[-1])
    assert len(every(page, "#result_list tbody tr")) == 1
    assert "measurement=request" in page.current_url
    press(page, one(page, "#result_list .field-when a"))
    assert PAYLOAD in texts(page, ".tailrace-pairs pre")
    offsets = texts(page, ".tailrace-trace .tailrace-number")
    assert offsets == ["+0.000 ms", "+1.000 ms", "+2.000 ms"]
    assert is_harmless(page)
    press(page, one(page, ".tailrace-detail h2 a"))
    assert urlsplit(page.current_url).query == "q=4bf92f3577b34da6a3ce929d0e0e4736"
    assert len(every(page, "#result_list tbody tr")) == 3


def test_a_time_range_is_typed_into_the_form(page: Any, server: str) -> None:
    """The browser's own time inputs work, and keep what was typed."""
    page.get(server + "tailrace/event/")
    script = "arguments[0].value = arguments[1]"
    page.execute_script(script, one(page, "input[name=since]"), "2026-05-28T20:26:40")
    page.execute_script(script, one(page, "input[name=until]"), "2026-05-28T20:26:41")
    press(page, every(page, ".tailrace-filter button")[0])
    assert "since=2026-05-28T20%3A26%3A40" in page.current_url
    assert one(page, "input[name=until]").get_attribute("value") == "2026-05-28T20:26:41"
    assert texts(page, ".tailrace-filter .errornote") == []
    assert len(every(page, "#result_list tbody tr")) == 50


def test_replaying(page: Any, server: str) -> None:
    """Tick two and go; then all that match a filter; then one on its own page."""
    page.get(server + "tailrace/deadletter/")
    assert len(every(page, "#result_list tbody tr")) == 6
    for box in every(page, "#result_list .action-select")[:2]:
        box.click()
    one(page, "select[name=action] option[value=replay]").click()
    press(page, one(page, "button[name=index]"))
    assert texts(page, ".messagelist li") == ["Replayed 2 dead letters: 2 events are stored now."]
    assert len(every(page, "#result_list tbody tr")) == 4

    press(page, one(page, "#result_list .field-parked a"))
    assert PAYLOAD in one(page, ".tailrace-message").text
    press(page, one(page, ".tailrace-replay button"))
    assert texts(page, ".messagelist li") == ["Replayed 1 dead letters: 1 events are stored now."]
    assert is_harmless(page)

    link(page, "REPLAY ALL THAT MATCH")
    assert len(every(page, ".tailrace-trace tbody tr")) == 3
    press(page, one(page, "form button.default"))
    assert texts(page, ".messagelist li") == ["Replayed 3 dead letters: 3 events are stored now."]
    assert "Nothing here." in texts(page, ".tailrace-note")
    assert is_harmless(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_looks_like_the_admin(page: Any, server: str, theme: str) -> None:
    """Style sheets load, text is readable on its ground in both themes, nothing sticks out."""
    paths = [
        "tailrace/event/",
        "tailrace/event/1/change/",
        "tailrace/deadletter/",
        "tailrace/deadletter/1/change/",
        "tailrace/deadletter/replay/",
        "tailrace/exceptiongroup/",
        "tailrace/exceptiongroup/1/change/",
        "tailrace/ledgerentry/",
        "tailrace/shardcheckpoint/",
        "tailrace/producermark/",
    ]
    for path in paths:
        page.get(server + path)
        page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        assert is_harmless(page), path
        wide = "return document.documentElement.scrollWidth > window.innerWidth"
        assert not page.execute_script(wide), f"{path} is wider than the window"
        labels = ".tailrace-tag, .tailrace-field, .tailrace-message, .tailrace-pairs td"
        for element in every(page, labels)[:10]:
            assert contrast(page, element) >= 4.5, (path, theme, element.get_attribute("outerHTML"))


def contrast(page: Any, element: Any) -> float:
    """The contrast of an element's text, by the formula of WCAG 2."""
    colors = page.execute_script(
        """
        let ground = arguments[0], text = getComputedStyle(ground).color;
        const back = e => getComputedStyle(e).backgroundColor;
        while (ground && /, 0\\)$|transparent/.test(back(ground))) ground = ground.parentElement;
        return [text, ground ? back(ground) : "rgb(255, 255, 255)"];
        """,
        element,
    )
    light, dark = sorted((luminance(color) for color in colors), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """The relative luminance of ``rgb(r, g, b)``."""
    parts = [float(part) / 255 for part in color.strip("rgba()").split(",")[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
