"""One fixture plugin per concern; each is a module of this folder."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

pytest_plugins = [
    "fix_redis",
    "fix_postgres",
    "fix_timescale",
    "fix_mariadb",
    "fix_admin_site",
    "fix_browser",
]


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> None:
    """A shell's background jobs ignore SIGINT, and hand that on to every process that we start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _record_nothing_by_default() -> Iterator[None]:
    """Tests say themselves what they record, and where to; their own queries go nowhere.

    The shield is off: what it would swallow in a host is a failure here.
    """
    from tailrace.django_integration import guard
    from tailrace.pipeline.recording import configure

    configure(None)
    guard.is_shielded = False
    yield
    configure(None)
