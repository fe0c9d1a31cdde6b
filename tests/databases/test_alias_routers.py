"""Routers that send models to aliases: by app label, legacy, telemetry; and how they compose."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router
from django.db.models import Model

from tailrace.django_integration.routers import (
    LabelRouter,
    LegacyRouter,
    ReplicaRouter,
    TelemetryRouter,
    TimeRouter,
)

Make = Callable[..., Any]
TELEMETRY = {
    "BACKENDS": {
        "default": {
            "BACKEND": "tailrace.backends.django_db.DjangoDBBackend",
            "OPTIONS": {"ALIAS": "telemetry"},
        }
    }
}


class HandWrittenRouter:
    """What a host may have of its own: the app ``shop`` on ``shop_db``."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "shop_db" if model._meta.app_label == "shop" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db == "shop_db" if app_label == "shop" else None


def test_c_router_by_app_label(make_aliases: Make, make_model: Make, use_routers: Make) -> None:
    """The rule's app goes to the rule's alias; any other app goes where it went before."""
    make_aliases("blog_db")
    use_routers(LabelRouter({"blog": "blog_db"}))
    assert router.db_for_read(make_model("blog")) == "blog_db"
    assert router.db_for_write(make_model("blog")) == "blog_db"
    assert router.db_for_write(make_model("accounts")) == "default"


def test_c_router_analytics_its_label_there_and_nothing_else_there(
    make_aliases: Make, use_routers: Make
) -> None:
    """The alias of a rule takes its app's tables and no others; default keeps all but those."""
    make_aliases("analytics")
    use_routers(LabelRouter({"analytics": "analytics"}))
    assert router.allow_migrate("analytics", "analytics")
    assert not router.allow_migrate("default", "analytics")
    assert not router.allow_migrate("analytics", "auth")
    assert router.allow_migrate("default", "auth")


def test_c_router_legacy_unmanaged_never_migrated(
    make_aliases: Make, make_model: Make, use_routers: Make
) -> None:
    """Legacy models are read and written on their alias, and nothing is ever migrated there."""
    make_aliases("legacy")
    use_routers(LegacyRouter({"erp": "legacy", "crm.customer": "legacy"}))
    assert router.db_for_read(make_model("erp")) == "legacy"
    assert router.db_for_write(make_model("crm", "Customer")) == "legacy"
    assert router.db_for_write(make_model("crm", "Ticket")) == "default"
    assert not router.allow_migrate("legacy", "erp")
    assert not router.allow_migrate("default", "erp")
    assert not router.allow_migrate("legacy", "auth")
    assert router.allow_migrate("default", "auth")
    assert router.allow_migrate("default", "crm", model_name="ticket")
    assert not router.allow_migrate("default", "crm", model_name="customer")


def test_a_telemetry_router_follows_every_backend(
    make_aliases: Make, make_model: Make, use_routers: Make, settings: Any
) -> None:
    """Tailrace's tables are allowed on each alias that a backend uses, rows go to the default's."""
    make_aliases("telemetry", "archive")
    backend = {"BACKEND": "tailrace.backends.django_db.DjangoDBBackend"}
    settings.TAILRACE = {
        "BACKENDS": {
            "archive": {**backend, "OPTIONS": {"ALIAS": "archive"}},
            "default": {**backend, "OPTIONS": {"ALIAS": "telemetry"}},
            "flux": {"BACKEND": "tailrace.backends.influxdb.InfluxDBBackend", "OPTIONS": {}},
        }
    }
    use_routers(TelemetryRouter())
    model = make_model("tailrace", "Event")
    assert router.db_for_write(model) == "telemetry"
    archived = model()
    archived._state.db = "archive"
    assert router.db_for_write(model, instance=archived) == "archive"
    allowed = {alias: router.allow_migrate(alias, "tailrace") for alias in ("telemetry", "archive")}
    assert allowed == {"telemetry": True, "archive": True}
    assert not router.allow_migrate("default", "tailrace")
    assert not router.allow_migrate("telemetry", "auth")
    assert router.allow_migrate("default", "auth")


@pytest.mark.parametrize(
    "tailrace",
    [
        None,
        {},
        {"BACKENDS": {"default": {"BACKEND": "tailrace.backends.database.DatabaseBackend"}}},
        {"BACKENDS": {"default": {"BACKEND": "tailrace.backends.influxdb.InfluxDBBackend"}}},
    ],
)
def test_a_nothing_set_means_the_default_alias(
    make_aliases: Make, make_model: Make, use_routers: Make, settings: Any, tailrace: Any
) -> None:
    """Without an alias of its own Tailrace lives on default, and closes it to nobody."""
    make_aliases("other")
    settings.TAILRACE = tailrace
    use_routers(TelemetryRouter())
    assert router.db_for_write(make_model("tailrace", "Event")) == "default"
    assert router.allow_migrate("default", "tailrace")
    assert router.allow_migrate("default", "auth")
    assert router.allow_migrate("other", "auth")
    assert not router.allow_migrate("other", "tailrace")


def test_d_database_routing_rules_is_read_from_exactly_this_setting(
    make_aliases: Make, make_model: Make, use_routers: Make, settings: Any
) -> None:
    """``DATABASE_ROUTING_RULES = {app_label: alias}``, and changing it in a test works."""
    make_aliases("blog_db", "shop_db")
    use_routers(LabelRouter())
    assert router.db_for_read(make_model("blog")) == "default"
    settings.DATABASE_ROUTING_RULES = {"blog": "blog_db", "shop": "shop_db"}
    assert router.db_for_read(make_model("blog")) == "blog_db"
    assert router.db_for_read(make_model("shop")) == "shop_db"


@pytest.mark.parametrize("kind", [LabelRouter, LegacyRouter])
def test_a_missing_alias_is_an_error_that_lists_the_aliases(
    make_aliases: Make, make_model: Make, use_routers: Make, kind: Any
) -> None:
    """A rule to nowhere says which setting, which alias, and what there is instead."""
    make_aliases("blog_db")
    use_routers(kind({"blog": "blgo_db"}))
    with pytest.raises(ImproperlyConfigured, match=r"'blgo_db'.*use one of: blog_db, default"):
        router.db_for_read(make_model("blog"))


def test_c_run_sql_hints_target_db_is_honoured_by_every_router(
    make_aliases: Make, use_routers: Make, settings: Any
) -> None:
    """``RunSQL(..., hints={"target_db": ...})`` runs there and nowhere else, under any router."""
    make_aliases("analytics", "legacy", "telemetry", "replica")
    settings.TAILRACE = TELEMETRY
    every = [
        LabelRouter({"blog": "analytics"}),
        LegacyRouter({"erp": "legacy"}),
        TelemetryRouter(),
        TimeRouter({"timeseries": {}}),
        ReplicaRouter({"replica": 1}),
    ]
    for installed in every:
        use_routers(installed)
        for app_label in ("blog", "erp", "tailrace", "timeseries", "auth"):
            for alias in ("default", "analytics", "legacy", "telemetry"):
                allowed = router.allow_migrate(alias, app_label, target_db="analytics")
                assert allowed == (alias == "analytics"), (installed, app_label, alias)


def test_c_routers_compose_in_any_order(
    make_aliases: Make, make_model: Make, use_routers: Make, settings: Any
) -> None:
    """All 720 orders of the five routers and a hand-written one give one and the same table."""
    make_aliases("analytics", "legacy", "telemetry", "replica", "shop_db")
    settings.TAILRACE = TELEMETRY
    every = [
        # The label rules claim what narrower routers claim too.
        LabelRouter({"blog": "analytics", "erp": "analytics", "tailrace": "analytics"}),
        LegacyRouter({"erp": "legacy"}),
        TelemetryRouter(),
        TimeRouter({"timeseries": {}}),
        ReplicaRouter({"replica": 1}),
        HandWrittenRouter(),
    ]
    labels = ["blog", "erp", "tailrace", "timeseries", "shop", "auth"]
    by_label = {label: make_model(label) for label in labels}
    month = every[3].claim("timeseries", None)
    aliases = ["default", "analytics", "legacy", "telemetry", "replica", "shop_db", month]
    post = by_label["blog"]()
    post._state.db = "analytics"

    def table() -> dict[Any, Any]:
        found: dict[Any, Any] = {"author": router.db_for_write(by_label["auth"], instance=post)}
        for label, model in by_label.items():
            found[label] = (router.db_for_read(model), router.db_for_write(model))
            for alias in aliases:
                found[label, alias] = router.allow_migrate(alias, label)
        return found

    tables = []
    for order in permutations(every):
        from tailrace.django_integration.routers import forget_writes

        forget_writes()
        use_routers(*order)
        # Writing pins the primary, so the read of an unclaimed app is asked for first.
        tables.append((router.db_for_read(by_label["auth"]), table()))
    assert all(found == tables[0] for found in tables)
    first_read, found = tables[0]
    assert first_read == "replica"
    assert found["author"] == "default"
    assert found["blog"] == ("analytics", "analytics")
    assert found["erp"] == ("legacy", "legacy")
    assert found["tailrace"] == ("telemetry", "telemetry")
    assert found["timeseries"] == (month, month)
    assert found["shop"] == ("shop_db", "shop_db")
    homes = {"blog": "analytics", "tailrace": "telemetry", "timeseries": month, "shop": "shop_db"}
    for label in labels:
        allowed = {alias for alias in aliases if found[label, alias]}
        assert homes.get(label, "default") in allowed or label == "erp", (label, allowed)
    assert {alias for alias in aliases if found["auth", alias]} == {"default", "shop_db"}
    assert not any(found["erp", alias] for alias in aliases)
    assert not any(found[label, "replica"] for label in labels)


def test_c_routers_never_block_another_apps_migrations(
    make_aliases: Make, use_routers: Make
) -> None:
    """An alias of ours that a hand-written router uses as well stays open to its app."""
    make_aliases("shop_db")
    for order in permutations([LabelRouter({"blog": "shop_db"}), HandWrittenRouter()]):
        use_routers(*order)
        assert router.allow_migrate("shop_db", "shop")
        assert router.allow_migrate("shop_db", "blog")
        assert not router.allow_migrate("shop_db", "auth")


def test_d_relations_across_databases_need_a_key_without_constraint(
    make_aliases: Make, make_model: Make, use_routers: Make
) -> None:
    """``db_constraint=False`` is what makes a link across databases allowed."""
    make_aliases("blog_db")
    use_routers(LabelRouter({"blog": "blog_db"}))
    user = make_model("accounts", "User")
    loose = models.ForeignKey(user, models.DO_NOTHING, db_constraint=False, related_name="+")
    tight = models.ForeignKey(user, models.DO_NOTHING, related_name="+")
    post, comment = make_model("blog", "Post", author=loose), make_model("blog", "C", author=tight)
    someone, a_post, a_comment = user(), post(), comment()
    someone._state.db, a_post._state.db, a_comment._state.db = "default", "blog_db", "blog_db"
    assert router.allow_relation(someone, a_post)
    assert router.allow_relation(a_post, someone)
    assert not router.allow_relation(someone, a_comment)


def test_an_instance_of_another_database_is_followed_when_it_was_asked_for(
    make_aliases: Make, make_model: Make, use_routers: Make
) -> None:
    """What was loaded with ``using("archive")`` keeps reading there, as Django does it."""
    make_aliases("blog_db", "archive", "replica")
    use_routers(LabelRouter({"blog": "blog_db"}), ReplicaRouter({"replica": 1}))
    user = make_model("accounts", "User")
    old = user()
    old._state.db = "archive"
    assert router.db_for_read(user, instance=old) == "archive"
    fresh = user()
    fresh._state.db = "replica"
    assert router.db_for_write(user, instance=fresh) == "default"


def test_a_router_that_is_asked_without_being_installed_answers_for_itself(
    make_aliases: Make, make_model: Make, use_routers: Make
) -> None:
    """``LabelRouter(rules).db_for_read(...)`` works in a shell and in other people's tests."""
    make_aliases("blog_db")
    use_routers(LabelRouter({}))
    assert LabelRouter({"blog": "blog_db"}).db_for_read(make_model("blog")) == "blog_db"


def test_a_mirror_of_djangos_is_followed_in_tests(
    make_aliases: Make, make_model: Make, use_routers: Make
) -> None:
    """With ``TEST={"MIRROR": "default"}`` the app lives on default while tests run."""
    make_aliases(blog_db={"TEST": {"MIRROR": "default"}})
    use_routers(LabelRouter({"blog": "blog_db"}))
    assert router.db_for_read(make_model("blog")) == "default"
    assert router.allow_migrate("default", "blog")
    assert router.allow_migrate("default", "auth")
