"""System checks of the routing: wrong aliases, and links that a database could not keep.

Register them with ``@register(Tags.database)`` or ``@register(Tags.models)``: they open no
connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, models, router

from tailrace.django_integration.routers.base import AliasRouter, effective_alias, owner_of
from tailrace.django_integration.routers.replica import ReplicaRouter

E_ROUTING = "tailrace.E801"
E_CONSTRAINT = "tailrace.E802"
E_REPLICA_ENGINE = "tailrace.E803"
W_ON_DELETE = "tailrace.W801"


def check_databases(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the installed routers of this package, and the models that they separate."""
    broken = list(_wrong_rules())
    if broken:
        return broken
    return [*_wrong_replicas(), *_wrong_keys(app_configs)]


def _wrong_rules() -> Iterator[CheckMessage]:
    for peer in router.routers:
        try:
            if isinstance(peer, AliasRouter):
                peer.claim("tailrace", None)
            elif isinstance(peer, ReplicaRouter):
                _ = peer.pools
        except ImproperlyConfigured as error:
            yield Error(str(error), id=E_ROUTING)


def _wrong_replicas() -> Iterator[CheckMessage]:
    for peer in router.routers:
        if not isinstance(peer, ReplicaRouter):
            continue
        for pool in peer.pools.values():
            for alias in pool.replicas:
                if connections[alias].vendor != connections[pool.primary].vendor:
                    yield Error(
                        f"{alias!r} is no replica of {pool.primary!r}: their engines differ.",
                        hint="A read that fails on a replica is repeated on its primary, with the "
                        "same SQL. Route apps to another engine with DATABASE_ROUTING_RULES.",
                        id=E_REPLICA_ENGINE,
                    )


def _wrong_keys(app_configs: Any) -> Iterator[CheckMessage]:
    configs = app_configs if app_configs is not None else apps.get_app_configs()
    for config in configs:
        for model in config.get_models():
            if not model._meta.managed:
                continue
            for field in model._meta.local_fields:
                if isinstance(field, models.ForeignKey):
                    yield from _wrong_key(model, field)


def _wrong_key(model: type[models.Model], field: Any) -> Iterator[CheckMessage]:
    here, there = _home(model), _home(field.related_model)
    if here == there:
        return
    where = f"{model._meta.label} is on {here!r}, {field.related_model._meta.label} on {there!r}"
    if field.db_constraint:
        yield Error(
            f"{where}: the database cannot keep this foreign key.",
            hint="Set db_constraint=False and on_delete=DO_NOTHING.",
            obj=field,
            id=E_CONSTRAINT,
        )
    elif field.remote_field.on_delete is not models.DO_NOTHING:
        yield Warning(
            f"{where}: deleting the latter looks for the former in {there!r}, where its table is "
            "not, and fails.",
            hint="Set on_delete=DO_NOTHING, and delete or keep the rows yourself, for example in "
            "a post_delete receiver.",
            obj=field,
            id=W_ON_DELETE,
        )


def _home(model: type[models.Model]) -> str:
    owner = owner_of(model._meta.app_label, model._meta.model_name)
    if owner is None:
        return DEFAULT_DB_ALIAS
    return str(effective_alias(owner.claim(model._meta.app_label, model._meta.model_name)))
