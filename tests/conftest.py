"""One fixture plugin per concern; each is a module of this folder."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.signals import setting_changed

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

    def stop(*, setting: str, enter: bool, **kwargs: Any) -> None:
        # What override_settings goes back to would record, and warn of a Redis that is not there
        # in the middle of tests that have nothing to do with it.
        if setting == "TAILRACE" and not enter:
            configure(None)

    configure(None)
    guard.is_shielded = False
    setting_changed.connect(stop)
    yield
    setting_changed.disconnect(stop)
    configure(None)
