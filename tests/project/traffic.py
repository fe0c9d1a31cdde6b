"""Real HTTP traffic on the shop: visitors who look, buy, call the API and run into trouble.

    python -m project.traffic --url http://127.0.0.1:8000 --visitors 6 --rate 40 --duration 20

Runs until ``--duration`` is over or SIGTERM comes, then prints one line of JSON with what
it sent: ``{"answered": 800, "unanswered": 0, "statuses": {"200": 700, ...}}``.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import random
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

REPLY_TIMEOUT_SECONDS = 30.0
RETRY_PAUSE_SECONDS = 0.2
_CSRF_FIELD = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
_PRODUCT_LINK = re.compile(r'href="(/products/[-\w]+/)"')
_PRODUCT_ID = re.compile(r'name="product" value="(\d+)"')
_CUSTOMER_ID = re.compile(r'<option value="(\d+)"')

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json", "Authorization": "Bearer not-a-real-secret"}
FAILURES = ["division", "currency", "payment", "sql"]


@dataclass
class Tally:
    """What was sent by all visitors together."""

    answered: int = 0
    unanswered: int = 0
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, status: int | None) -> None:
        """Count one request; ``None`` is one that got no answer."""
        with self.lock:
            if status is None:
                self.unanswered += 1
            else:
                self.answered += 1
                self.statuses[status] += 1

    def as_json(self) -> str:
        """Return the line that is printed at the end."""
        statuses = {str(status): number for status, number in sorted(self.statuses.items())}
        return json.dumps(
            {"answered": self.answered, "unanswered": self.unanswered, "statuses": statuses}
        )


class Visitor:
    """One browser: a kept-open connection, cookies, and a taste of its own."""

    def __init__(self, url: str, seed: int, tally: Tally, pause: Callable[[], None]) -> None:
        """Prepare a visitor.

        Args:
            url: where the shop is, for example ``http://127.0.0.1:8000``.
            seed: what its choices follow from.
            tally: where requests are counted.
            pause: called before each request; sets the rate.
        """
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=REPLY_TIMEOUT_SECONDS
        )
        self._cookies = SimpleCookie()
        self._chance = random.Random(seed)
        self.tally = tally
        self._pause = pause

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def visit(self) -> None:
        """Do one thing that visitors do."""
        visits, weights = zip(*self._visits(), strict=True)
        self._chance.choices(visits, weights)[0]()

    def _visits(self) -> list[tuple[Callable[[], object], int]]:
        """Return what visitors do, and how often out of a hundred times."""
        return [
            (self.browse, 34),
            (self.buy, 14),
            (lambda: self.get("/"), 10),
            (self.call_api, 22),
            (lambda: self.get("/reports/n-plus-one/"), 4),
            (lambda: self.get("/reports/sales/"), 4),
            (lambda: self.get("/slow/"), 3),
            (lambda: self.get(f"/broken/{self._chance.choice(FAILURES)}/"), 3),
            (lambda: self.get(f"/products/gone-{self._chance.randrange(10**6)}/"), 3),
            (lambda: self.get("/forbidden/"), 2),
            (lambda: self.get(f"/wp-login.php?token={self._chance.randrange(10**6)}"), 1),
        ]

    def browse(self) -> str:
        """Look at a page of the list and at one product; returns the product's page."""
        listing = self.get(f"/products/?page={self._chance.randrange(1, 11)}")
        links = _PRODUCT_LINK.findall(listing)
        return self.get(self._chance.choice(links)) if links else ""

    def buy(self) -> None:
        """Put a product into the cart and check out, with the forms' CSRF tokens."""
        page = self.browse()
        product, token = _PRODUCT_ID.search(page), _CSRF_FIELD.search(page)
        if not (product and token):
            return
        quantity = self._chance.randrange(1, 4)
        self.post_form("/cart/add/", token[1], product=product[1], quantity=quantity)
        page = self.get("/cart/")
        customers, token = _CUSTOMER_ID.findall(page), _CSRF_FIELD.search(page)
        if customers and token:
            self.post_form("/checkout/", token[1], customer=self._chance.choice(customers))

    def call_api(self) -> None:
        """Call the JSON API as another program does."""
        number = self._chance.randrange(1, 131)  # the last five do not exist
        choice = self._chance.random()
        if choice < 0.3:
            self.get("/api/items/")
        elif choice < 0.7:
            self.get(f"/api/items/{number}/")
        elif choice < 0.85:
            self.get(f"/api/search/?q={self._chance.choice(['rye', 'mill', 'gear'])}")
        else:
            body = json.dumps({"quantity": self._chance.randrange(1, 3)})
            self.request("POST", f"/api/items/{number}/reserve/", body, JSON)

    def get(self, path: str) -> str:
        """GET a page; returns its text."""
        return self.request("GET", path, None, {})

    def post_form(self, path: str, token: str, **values: object) -> str:
        """POST a form and follow the redirect, as a browser does."""
        return self.request("POST", path, urlencode({"csrfmiddlewaretoken": token, **values}), FORM)

    def request(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> str:
        """Send one request and count it; returns the text of the reply, ``""`` if none came."""
        self._pause()
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in self._cookies.items())
        try:
            self._connection.request(method, path, body, {**headers, "Cookie": cookies})
            reply = self._connection.getresponse()
            text = reply.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            # A server may close a kept-open connection just as we use it.
            self.tally.count(None)
            self._connection.close()
            time.sleep(RETRY_PAUSE_SECONDS)
            return ""
        self.tally.count(reply.status)
        for cookie in reply.headers.get_all("Set-Cookie", []):
            self._cookies.load(cookie)
        location = reply.headers.get("Location")
        return self.get(location) if location else text


class Pace:
    """Spread requests evenly over time, whatever number of visitors makes them."""

    def __init__(self, rate_per_second: float, stop: threading.Event) -> None:
        """Allow ``rate_per_second`` requests in all; ``stop`` ends every wait."""
        self._gap_seconds = 1 / rate_per_second
        self._next = time.monotonic()
        self._lock = threading.Lock()
        self._stop = stop

    def wait(self) -> None:
        """Wait for the next turn."""
        with self._lock:
            # Time that was lost is not made up for: a slow server is not punished later.
            self._next = max(self._next + self._gap_seconds, time.monotonic())
            turn = self._next
        self._stop.wait(max(0.0, turn - time.monotonic()))


def run(url: str, visitors: int, rate: float, seed: int, stop: threading.Event) -> Tally:
    """Send traffic until ``stop`` is set.

    Args:
        url: where the shop is.
        visitors: how many act at the same time.
        rate: requests a second in all.
        seed: what the visitors' choices follow from.
        stop: set it to end; the request under way is still finished.

    Returns:
        What was sent and how it was answered.
    """
    tally, pace = Tally(), Pace(rate, stop)

    def live(number: int) -> None:
        visitor = Visitor(url, seed * 1_000 + number, tally, pace.wait)
        while not stop.is_set():
            visitor.visit()
        visitor.close()

    threads = [threading.Thread(target=live, args=(number,)) for number in range(visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def main() -> None:
    """Send traffic as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--visitors", type=int, default=6)
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second in all")
    parser.add_argument("--duration", type=float, default=0.0, help="seconds; 0 is for ever")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.duration:
        clock = threading.Timer(options.duration, stop.set)
        clock.daemon = True
        clock.start()
    tally = run(options.url, options.visitors, options.rate, options.seed, stop)
    print(tally.as_json(), flush=True)


if __name__ == "__main__":
    main()
