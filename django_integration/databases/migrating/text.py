"""The plan, the findings and the results in lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.apps import apps
from django.db import router

from tailrace.django_integration.databases.migrating.model import AliasPlan, Role
from tailrace.django_integration.databases.migrating.runner import Result
from tailrace.django_integration.routers.base import owner_of
from tailrace.django_integration.routers.months import TimeRouter


def plan_lines(plans: Iterable[AliasPlan]) -> Iterator[str]:
    """Say per alias and app what is to run and what is wrong."""
    yield "Plan:"
    for plan in plans:
        yield f"  {plan.alias}: {_headline(plan)}"
        for label, names in plan.pending.items():
            if names:
                yield f"    {label}: {', '.join(names)}"
        if plan.guests:
            yield f"    (and {plan.guests} of apps that live elsewhere, recorded only)"
        for finding in plan.findings:
            name = f"{finding.app}.{finding.migration}" if finding.migration else finding.app
            yield f"    {name}: {finding.kind.upper()}: {finding.what}"
            how = "the next run" if finding.is_mended_by_any_run else "--repair"
            yield f"      {how} {finding.repair}"


def routing_lines() -> Iterator[str]:
    """Say which app goes where, and by which router."""
    yield "Routing:"
    for config in sorted(apps.get_app_configs(), key=lambda config: config.label):
        models = list(config.get_models())
        if not models:
            continue
        homes = sorted({_home(model) for model in models})
        owner = owner_of(config.label, None)
        yield f"  {config.label} -> {', '.join(homes)}" + (
            f" ({type(owner).__name__})" if owner is not None else ""
        )


def result_lines(results: Iterable[Result]) -> Iterator[str]:
    """Say what came of each alias."""
    yield "Result:"
    for result in results:
        done = []
        if result.applied:
            done.append(f"{len(result.applied)} applied")
        if result.repaired:
            done.append(f"{len(result.repaired)} repaired")
        status = "FAILED" if result.problems else "clean"
        yield f"  {result.alias}: {status}" + (f", {', '.join(done)}" if done else "")
        for problem in result.problems:
            yield f"    {problem}"


def _headline(plan: AliasPlan) -> str:
    if plan.role is Role.DOWN:
        return f"{plan.role} ({plan.detail})"
    if plan.role is Role.SAME_DATABASE:
        return f"{plan.role}, {plan.detail!r}"
    if plan.role is not Role.MIGRATED:
        return str(plan.role)
    if not plan.pending:
        return "no app lives here"
    if plan.is_clean:
        return f"up to date ({', '.join(plan.pending)})"
    return f"{plan.pending_count} pending" + (", and something is wrong" if plan.findings else "")


def _home(model: object) -> str:
    # Reading the claim, and not asking db_for_write(), which notes a write.
    owner = owner_of(model._meta.app_label, model._meta.model_name)  # type: ignore[attr-defined]
    if isinstance(owner, TimeRouter):
        return owner.rules[model._meta.app_label].alias_pattern  # type: ignore[attr-defined]
    if owner is not None:
        return str(owner.alias_for(model, {}))  # type: ignore[arg-type]
    return router.db_for_write(model)
