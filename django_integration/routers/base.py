"""What all alias routers share: who claims a model, and what follows from that."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import Model


class AliasRouter:
    """A router that claims models and names the alias they live on.

    Subclasses say four small things (``claim``, ``holds``, ``migrates_on``, ``is_dedicated``); this
    class turns them into Django's router methods, such that the order of ``DATABASE_ROUTERS`` does
    not matter among routers of this package.
    """

    #: Where two routers claim the same model, the smaller rank wins: the narrower claim.
    rank: int = 100

    def claim(self, app_label: str, model_name: str | None) -> str | None:
        """Name the alias that this model's queries go to, or ``None`` if it is not ours."""
        raise NotImplementedError

    def holds(self, alias: str, app_label: str, model_name: str | None) -> bool:
        """Say whether rows of a model that we claim can live on `alias`."""
        return alias == effective_alias(self.claim(app_label, model_name))

    def migrates_on(self, alias: str, app_label: str, model_name: str | None) -> bool:
        """Say whether a model that we claim has its table on `alias`."""
        return self.holds(alias, app_label, model_name)

    def is_dedicated(self, alias: str) -> bool:
        """Say whether `alias` is kept for the models that we claim, and nothing else."""
        return False

    def alias_for(self, model: type[Model], hints: dict[str, Any]) -> str | None:
        """Name the alias for one query on a model that we claim."""
        return effective_alias(self.claim(model._meta.app_label, model._meta.model_name))

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Django's hook: the alias to read `model` from, or ``None`` for no opinion."""
        return self._route("db_for_read", model, hints)

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """Django's hook: the alias to write `model` to, or ``None`` for no opinion."""
        return self._route("db_for_write", model, hints)

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool | None:
        """Django's hook: allow a link across databases that has no constraint in the database."""
        return True if is_loosely_linked(obj1.__class__, obj2.__class__) else None

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        """Django's hook: whether an operation runs on `db`; honours ``hints["target_db"]``."""
        if "target_db" in hints:
            return db == effective_alias(hints["target_db"])
        owner = owner_of(app_label, model_name, asking=self)
        if owner is self:
            return self.migrates_on(db, app_label, model_name)
        if owner is not None or db == DEFAULT_DB_ALIAS or not self.is_dedicated(db):
            return None
        if foreign_answer("allow_migrate", self, db, app_label, model_name=model_name, **hints):
            return None
        return False

    def _route(self, method: str, model: type[Model], hints: dict[str, Any]) -> str | None:
        owner = owner_of(model._meta.app_label, model._meta.model_name, asking=self)
        if owner is self:
            return self.alias_for(model, hints)
        if owner is not None:
            return None
        return _home_of_unclaimed(method, model, hints, asking=self)


def effective_alias(alias: str | None) -> str | None:
    """Follow Django's own ``TEST["MIRROR"]`` while a test environment is set up.

    A host that mirrors ``blog_db`` to ``default`` in tests has no database of that name there, so
    its rows live where the mirror points. Outside tests this returns `alias` unchanged.
    """
    if alias is None or not in_test_environment():
        return alias
    configured = connections.settings.get(alias)
    mirror = (configured or {}).get("TEST", {}).get("MIRROR")
    return mirror or alias


def in_test_environment() -> bool:
    """Say whether Django's ``setup_test_environment()`` is in force in this process."""
    utils = sys.modules.get("django.test.utils")
    # Django keeps no public flag; this is the one its own setup and teardown check.
    return utils is not None and hasattr(utils._TestState, "saved_data")


def owner_of(
    app_label: str, model_name: str | None, *, asking: AliasRouter | None = None
) -> AliasRouter | None:
    """Name the installed router that claims a model, the narrowest claim first."""
    claimants = (
        peer for peer in alias_routers(asking) if peer.claim(app_label, model_name) is not None
    )
    return min(claimants, key=lambda peer: peer.rank, default=None)


def alias_routers(asking: AliasRouter | None = None) -> list[AliasRouter]:
    """List our installed routers; one that is asked without being installed stands for its type."""
    installed = [peer for peer in router.routers if isinstance(peer, AliasRouter)]
    if asking is None or any(peer is asking for peer in installed):
        return installed
    return [asking, *(peer for peer in installed if type(peer) is not type(asking))]


def foreign_answer(method: str, asking: object, *args: Any, **kwargs: Any) -> Any:
    """Ask the routers that are not of this package; the first one with an opinion is heard."""
    for peer in foreign_routers():
        hook = getattr(peer, method, None)
        answer = hook(*args, **kwargs) if hook is not None and peer is not asking else None
        if answer is not None:
            return answer
    return None


def foreign_routers() -> Iterator[object]:
    """List the installed routers that are neither alias routers nor replica routers of ours."""
    for peer in router.routers:
        if not isinstance(peer, AliasRouter) and not getattr(peer, "splits_reads", False):
            yield peer


def require_aliases(aliases: Iterable[str], setting: str) -> None:
    """Refuse an alias that ``DATABASES`` does not have.

    Raises:
        ImproperlyConfigured: names the setting, the alias, and the aliases there are.
    """
    unknown = sorted({alias for alias in aliases if alias not in connections.settings})
    if unknown:
        known = ", ".join(sorted(connections.settings))
        raise ImproperlyConfigured(
            f"{setting} names {', '.join(map(repr, unknown))}, which DATABASES does not have. "
            f"Add the alias to DATABASES, or use one of: {known}."
        )


@lru_cache(maxsize=1024)
def is_loosely_linked(model: type[Model], other: type[Model]) -> bool:
    """Say whether a foreign key with ``db_constraint=False`` joins the two models, either way."""
    return _has_loose_key(model, other) or _has_loose_key(other, model)


def _has_loose_key(model: type[Model], target: type[Model]) -> bool:
    return any(
        field.is_relation
        and field.concrete
        and isinstance(field.related_model, type)
        and issubclass(target, field.related_model)
        and not getattr(field, "db_constraint", True)
        for field in model._meta.get_fields()
    )


def _home_of_unclaimed(
    method: str, model: type[Model], hints: dict[str, Any], asking: AliasRouter
) -> str | None:
    """Bring ``post.author`` home when the post lives elsewhere and its author does not.

    Django follows the instance's database when no router answers, and would look for the author
    in the database of the post. An instance that was loaded with ``using()`` from somewhere that
    is not its home is followed, as Django does.
    """
    instance = hints.get("instance")
    if instance is None or not is_at_claimed_home(instance, asking=asking):
        return None
    if foreign_answer(method, asking, model, **hints) is not None:
        return None
    if any(
        getattr(peer, "splits_reads", False) and peer.has_primary(DEFAULT_DB_ALIAS)
        for peer in router.routers
    ):
        return None  # The replica router answers for everything that lives on its primary.
    return DEFAULT_DB_ALIAS


def is_at_claimed_home(instance: Model, *, asking: AliasRouter | None = None) -> bool:
    """Say whether `instance` was loaded from the alias that its own router names."""
    meta = instance._meta
    owner = owner_of(meta.app_label, meta.model_name, asking=asking)
    alias = instance._state.db
    return (
        owner is not None
        and alias is not None
        and owner.holds(alias, meta.app_label, meta.model_name)
    )
