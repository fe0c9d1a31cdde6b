"""``databases_from_env`` and ``DatabaseConfig``: names, rules, and errors without a password."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from tailrace.django_integration.databases import DatabaseConfig, databases_from_env

SECRET = "hunter2-Very"


def test_d_database_url_names_and_rules() -> None:
    """``DATABASE__URL`` is default, ``_BLOG`` is blog_db, roles keep their names."""
    databases = databases_from_env(
        {
            "DATABASE__URL": "postgres://u:p@db:5432/main",
            "DATABASE__URL_REPLICA": "postgres://u:p@db2:5432/main",
            "DATABASE__URL_REPLICA_2": "postgres://u:p@db3:5432/main",
            "DATABASE__URL_ANALYTICS": "postgres://u:p@warehouse/analytics",
            "DATABASE__URL_LEGACY": "mysql://u:p@old:3306/erp",
            "DATABASE__URL_TELEMETRY": "sqlite:////var/lib/telemetry.sqlite3",
            "DATABASE__URL_BLOG": "postgres://u:p@db/blog",
            "DATABASE__URL_SHOP_DB": "postgres://u:p@db/shop",
            "DATABASE_URL": "postgres://not:ours@x/y",
            "PATH": "/bin",
        }
    )
    assert list(databases) == [
        "default",
        "analytics",
        "blog_db",
        "legacy",
        "replica",
        "replica_2",
        "shop_db",
        "telemetry",
    ]
    assert databases["default"]["ENGINE"] == "django.db.backends.postgresql"
    assert databases["default"]["HOST"] == "db"
    assert databases["default"]["PORT"] == 5432
    assert databases["legacy"]["ENGINE"] == "django.db.backends.mysql"
    assert databases["telemetry"]["NAME"] == "/var/lib/telemetry.sqlite3"
    assert databases["replica"]["TEST"] == {"MIRROR": "default"}
    assert databases["replica"]["OPTIONS"] == {"connect_timeout": 2}
    assert "TEST" not in databases["blog_db"]


def test_d_an_alias_exists_only_if_its_url_is_set() -> None:
    """Unset and empty are the same; without a default nothing works, and it says so."""
    assert list(
        databases_from_env({"DATABASE__URL": "sqlite:///x", "DATABASE__URL_BLOG": " "})
    ) == ["default"]
    assert databases_from_env({}, default="sqlite:///x")["default"]["NAME"] == "x"
    with pytest.raises(ImproperlyConfigured, match="DATABASE__URL is not set"):
        databases_from_env({"DATABASE__URL_BLOG": "sqlite:///x"})


def test_two_variables_for_one_alias_are_an_error() -> None:
    """Which one would win is nothing to guess."""
    with pytest.raises(ImproperlyConfigured, match=r"_BLOG and .*_BLOG_DB both name .*'blog_db'"):
        databases_from_env(
            {
                "DATABASE__URL": "sqlite:///x",
                "DATABASE__URL_BLOG": "sqlite:///y",
                "DATABASE__URL_BLOG_DB": "sqlite:///z",
            }
        )


def test_names_of_ones_own() -> None:
    """``aliases`` overrides the rule."""
    environ = {"DATABASE__URL": "sqlite:///x", "DATABASE__URL_BLOG": "sqlite:///y"}
    assert list(databases_from_env(environ, aliases={"BLOG": "articles"})) == [
        "default",
        "articles",
    ]


def test_d_database_config_from_url() -> None:
    """``DatabaseConfig.from_url(url=...)`` is an entry of ``DATABASES``, password unescaped."""
    config = DatabaseConfig.from_url(
        url="postgres://me:p%40ss%2Fw@db:5433/name?sslmode=require", CONN_MAX_AGE=60
    )
    assert config["PASSWORD"] == "p@ss/w"
    assert config["OPTIONS"] == {"sslmode": "require"}
    assert config["CONN_MAX_AGE"] == 60
    assert "p@ss/w" not in f"{config!r} {config} {[config]}"
    assert isinstance(config, dict)


def test_c_connection_pooling_is_djangos_own_pool() -> None:
    """``pool`` sets ``OPTIONS["pool"]`` on PostgreSQL, and no persistent connections with it."""
    environ = {"DATABASE__URL": "postgres://u:p@db/x", "DATABASE__URL_BLOG": "sqlite:///y"}
    databases = databases_from_env(environ, pool={"max_size": 4}, conn_max_age=60)
    assert databases["default"]["OPTIONS"]["pool"] == {"max_size": 4}
    assert databases["default"]["CONN_MAX_AGE"] == 0
    assert "OPTIONS" not in databases["blog_db"]
    assert databases["blog_db"]["CONN_MAX_AGE"] == 60
    by_url = DatabaseConfig.from_url(url="postgres://u:p@db/x?pool=true")
    assert by_url["OPTIONS"]["pool"] is True


BAD_URLS = [
    f"nosuch://me:{SECRET}@host/name",
    f"me:{SECRET}@host/name",
    f"postgres://me:{SECRET}/x@host/name",
    f"postgres://me:{SECRET}@x@host/name",
    f"postgres://me:{SECRET}#x@host/name",
    f"postgres://me:{SECRET}?x@host/name",
    f"postgres://me:{SECRET}[@host/name",
    f"postgres://me@host:{SECRET}/name",
    f"postgres://me:{SECRET}@host:5432",
    SECRET,
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_d_clear_errors_that_hide_passwords(url: str) -> None:
    """The variable, the alias and the remedy; nothing of the URL in message, chain or frames."""
    environ = {"DATABASE__URL": "sqlite:///x", "DATABASE__URL_BLOG": url}
    with pytest.raises(
        ImproperlyConfigured, match=r"DATABASE__URL_BLOG \(alias 'blog_db'\)"
    ) as one:
        databases_from_env(environ)
    with pytest.raises(ImproperlyConfigured) as two:
        DatabaseConfig.from_url(url)
    for caught in (one, two):
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert SECRET not in _locals_of_our_frames(caught.value)


def _locals_of_our_frames(error: BaseException) -> str:
    frames = traceback.walk_tb(error.__traceback__)
    return "".join(
        repr(frame.f_locals) for frame, _ in frames if frame.f_code.co_filename.endswith("/env.py")
    )


@given(st.text(min_size=5, max_size=20).filter(lambda text: text.strip() == text))
def test_any_password_survives_when_it_is_escaped(password: str) -> None:
    """Percent-encoding is the remedy that the errors name; it works for every character."""
    from urllib.parse import quote

    url = f"postgres://me:{quote(password, safe='', errors='replace')}@host/name"
    expected = password.encode(errors="replace").decode()
    assert DatabaseConfig.from_url(url)["PASSWORD"] == expected


@given(st.text(min_size=1, max_size=30))
def test_no_url_makes_an_error_that_quotes_it(junk: str) -> None:
    """Whatever stands for the password, it does not come back in the message."""
    marker = "Zq9#Zq9"
    try:
        config: Any = DatabaseConfig.from_url(f"postgres://u:{marker}{junk}@h/n")
    except ImproperlyConfigured as error:
        assert "Zq9" not in str(error)  # noqa: PT017 (either outcome is right)
    else:
        assert "Zq9" not in repr(config) or config["NAME"] not in ("n",)
