"""``DATABASES`` from the environment: one URL an alias, and errors that show no password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

PREFIX = "DATABASE__URL"
#: Suffixes that name a role; their alias is the role. Anything else is a domain: ``blog_db``.
ROLES = frozenset({"analytics", "legacy", "telemetry"})
#: A replica that does not answer must not hold a web request for the two minutes of TCP.
REPLICA_CONNECT_TIMEOUT_SECONDS = 2

_VARIABLE = re.compile(rf"{PREFIX}(?:_(?P<suffix>[A-Z0-9][A-Z0-9_]*))?")
_POSTGRESQL_ENGINES = ("postgresql", "postgis")


class DatabaseConfig(dict[str, Any]):
    """One entry of ``DATABASES``, which never prints its password.

    It is the dictionary that Django wants: ``{"default": DatabaseConfig.from_url(...)}`` is all
    there is to it.
    """

    @classmethod
    def from_url(
        cls, url: str, *, pool: bool | Mapping[str, Any] = False, **settings: Any
    ) -> DatabaseConfig:
        """Parse a database URL.

        Args:
            url: ``postgres://user:password@host:port/name?option=value``, ``sqlite:///path``,
                ``mysql://...`` and whatever else dj-database-url knows. ``?pool=true`` is `pool`.
            pool: use Django's connection pool (PostgreSQL with psycopg 3 only); a mapping is
                handed to psycopg_pool.
            settings: further keys, such as ``CONN_MAX_AGE=60`` (seconds) or ``TEST={...}``.

        Raises:
            ImproperlyConfigured: the URL cannot be read; the message shows no part of it that
                could be a password.
        """
        parsed, problem = _parse(url)
        if problem is not None:
            del url  # The debug page prints the variables of this frame.
            raise ImproperlyConfigured(problem)
        config = cls(parsed)
        config.update(settings)
        config._set_pool(pool)
        return config

    def __repr__(self) -> str:
        """Show the entry with every secret hidden."""
        from tailrace.django_integration.databases.secrets import without_secrets

        return f"DatabaseConfig({without_secrets(self)!r})"

    def __str__(self) -> str:
        """Show the entry with every secret hidden."""
        return repr(self)

    def _set_pool(self, pool: bool | Mapping[str, Any]) -> None:
        options = self.get("OPTIONS", {})
        pool = options.pop("pool", False) or pool
        if pool and self["ENGINE"].rpartition(".")[2] in _POSTGRESQL_ENGINES:
            options["pool"] = dict(pool) if isinstance(pool, Mapping) else True
            # Django refuses a pool together with persistent connections.
            self["CONN_MAX_AGE"] = 0
        if options:
            self["OPTIONS"] = options
        elif "OPTIONS" in self:
            del self["OPTIONS"]


def databases_from_env(
    environ: Mapping[str, str] | None = None,
    *,
    default: str | None = None,
    aliases: Mapping[str, str] | None = None,
    pool: bool | Mapping[str, Any] = False,
    conn_max_age: int = 0,
    mirror_in_tests: bool = False,
) -> dict[str, DatabaseConfig]:
    """Build ``DATABASES`` from ``DATABASE__URL`` and ``DATABASE__URL_<NAME>``.

    ``DATABASE__URL`` is ``default``. ``_REPLICA``, ``_REPLICA_<X>``, ``_ANALYTICS``, ``_LEGACY``
    and ``_TELEMETRY`` keep their name in lower case; any other, ``_BLOG``, becomes ``blog_db``.
    An alias exists only if its variable is set and not empty. Replicas get ``TEST["MIRROR"]`` and
    a short connect timeout.

    Args:
        environ: variables to read; ``None`` reads ``os.environ``.
        default: URL for ``default`` where ``DATABASE__URL`` is not set.
        aliases: names that follow no rule, ``{"BLOG": "articles"}``.
        pool: see ``DatabaseConfig.from_url``; applies to every PostgreSQL alias.
        conn_max_age: seconds that a connection is kept without a pool.
        mirror_in_tests: mirror every other alias to ``default`` in tests too, so that tests need
            no ``databases``; the price is that no test notices a join across databases.

    Raises:
        ImproperlyConfigured: no default, two variables for one alias, or a URL that cannot be
            read; the message names the variable and shows no password.
    """
    urls, problem = _collect_urls(
        os.environ if environ is None else environ, default, aliases or {}
    )
    databases: dict[str, DatabaseConfig] = {}
    for alias, (variable, url) in urls.items():
        parsed, reason = _parse(url)
        if reason is not None:
            problem = f"{variable} (alias {alias!r}): {reason}"
            break
        config = DatabaseConfig(parsed)
        config._set_pool(pool)
        if "pool" not in config.get("OPTIONS", {}):
            config["CONN_MAX_AGE"] = conn_max_age
        _set_role(alias, config, mirror_in_tests)
        databases[alias] = config
    if problem is not None:
        del environ, default, urls, databases
        url = parsed = config = None  # type: ignore[assignment]
        raise ImproperlyConfigured(problem)
    return databases


def _collect_urls(
    environ: Mapping[str, str], default: str | None, names: Mapping[str, str]
) -> tuple[dict[str, tuple[str, str]], str | None]:
    urls: dict[str, tuple[str, str]] = {}
    for variable in sorted(environ):
        match = _VARIABLE.fullmatch(variable)
        if match is None or not environ[variable].strip():
            continue
        alias = _alias_of(match["suffix"], names)
        if alias in urls:
            return {}, f"{urls[alias][0]} and {variable} both name the alias {alias!r}; unset one."
        urls[alias] = (variable, environ[variable].strip())
    if "default" not in urls:
        if default is None:
            return {}, (
                f"{PREFIX} is not set, so there is no database 'default'. Set it, for example "
                f"{PREFIX}=postgres://user:password@host:5432/name or {PREFIX}=sqlite:///db.sqlite3."
            )
        urls["default"] = ("the default URL", default)
    return dict(sorted(urls.items(), key=lambda item: item[0] != "default")), None


def _alias_of(suffix: str | None, names: Mapping[str, str]) -> str:
    if not suffix:
        return "default"
    if suffix in names:
        return names[suffix]
    name = suffix.lower()
    if name in ROLES or name.startswith("replica") or name.endswith("_db"):
        return name
    return f"{name}_db"


def _set_role(alias: str, config: DatabaseConfig, mirror_in_tests: bool) -> None:
    is_replica = alias.startswith("replica")
    if is_replica or (mirror_in_tests and alias != "default"):
        config["TEST"] = {**config.get("TEST", {}), "MIRROR": "default"}
    if is_replica and not config["ENGINE"].endswith("sqlite3"):
        options = dict(config.get("OPTIONS", {}))
        options.setdefault("connect_timeout", REPLICA_CONNECT_TIMEOUT_SECONDS)
        config["OPTIONS"] = options


def _parse(url: str) -> tuple[dict[str, Any], str | None]:
    """Return the parsed URL, or what is wrong with it in words that quote nothing of it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return {}, "this is no database URL; write scheme://user:password@host:port/name."
    if scheme not in dj_database_url.ENGINE_SCHEMES:
        known = ", ".join(sorted(dj_database_url.ENGINE_SCHEMES))
        shown = scheme if re.fullmatch(r"[a-z0-9+.-]{1,20}", scheme) else "?"
        return {}, f"unknown scheme {shown!r}; use one of: {known}."
    escape = "percent-encode the special characters of the password (@ is %40, / is %2F, # is %23)"
    if rest.partition("/")[0].count("@") > 1 or ("@" in rest.partition("/")[2].partition("?")[0]):
        return {}, f"the URL has an @ or / too many; {escape}."
    try:
        parsed = dict(dj_database_url.parse(url))
    except (dj_database_url.ParseError, ValueError):
        # The parser's own message can quote the password, so it is neither shown nor chained.
        return {}, f"the host or port cannot be read; {escape}."
    if not parsed.get("NAME"):
        return {}, "the URL names no database; add /name at its end."
    return parsed, None
