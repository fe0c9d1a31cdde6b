"""The configured backends, made once a process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from tailrace.pipeline.config import Config
from tailrace.pipeline.errors import ConfigurationError

from .base import BaseBackend


class BackendRegistry:
    """Backends by alias; made and set up when first asked for."""

    def __init__(self) -> None:
        self._config: Callable[[], Config] = Config
        self._made: dict[str, BaseBackend] = {}
        self._lock = threading.Lock()

    def configure(self, config: Callable[[], Config]) -> None:
        """Take the backends from what ``config()`` returns; close those made before."""
        with self._lock:
            self._config = config
            made, self._made = self._made, {}
        for backend in made.values():
            backend.close()

    @property
    def config(self) -> Config:
        """The settings, as they are now."""
        return self._config()

    @property
    def aliases(self) -> list[str]:
        """The configured aliases."""
        return list(self._config().backends)

    def get(self, alias: str = "default") -> BaseBackend:
        """Return the backend that is configured under ``alias``.

        Raises:
            ImproperlyConfigured: there is none, its class cannot be imported, or its options
                are wrong.
        """
        with self._lock:
            if alias not in self._made:
                backend = self.make(alias)
                backend.setup()
                self._made[alias] = backend
            return self._made[alias]

    def make(self, alias: str) -> BaseBackend:
        """Make a backend without setting it up; system checks use this."""
        entry = self._config().backends.get(alias)
        if entry is None:
            raise ImproperlyConfigured(
                f"there is no Tailrace backend {alias!r}; TAILRACE['BACKENDS'] has: "
                f"{', '.join(self.aliases)}"
            )
        where = f"TAILRACE['BACKENDS'][{alias!r}]['BACKEND'] is {entry.backend!r}"
        try:
            made = import_string(entry.backend)
        except ImportError as error:
            raise ImproperlyConfigured(f"{where}: {error}") from error
        if not (isinstance(made, type) and issubclass(made, BaseBackend)):
            raise ImproperlyConfigured(f"{where}, which is no tailrace.backends.base.BaseBackend")
        try:
            backend: BaseBackend = made(alias, entry.options)
        except ConfigurationError as error:
            raise ImproperlyConfigured(str(error)) from error
        return backend


backends = BackendRegistry()


def get_backend(alias: str = "default") -> BaseBackend:
    """Return the backend that is configured under ``alias``; always the same object."""
    return backends.get(alias)


def get_storage_db_alias(alias: str = "default") -> str | None:
    """Return the Django database alias that the backend ``alias`` stores in, if any."""
    return backends.get(alias).get_db_alias()
