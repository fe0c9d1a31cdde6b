"""The kinds ``copy`` and ``compare``: history from one backend to another, beside live traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from tailrace.backends import get_backend
from tailrace.backends.backfill.ends import sink_of, source_of
from tailrace.backends.backfill.selection import SLICE_ROWS, Selection
from tailrace.backends.base import BaseBackend
from tailrace.backends.exception_groups import MEASUREMENT as EXCEPTIONS
from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Estimate,
    Kind,
    Sink,
    Slice,
    Source,
    StepContext,
    StepResult,
    Values,
    Waiting,
)
from tailrace.pipeline.backfill.digest import Digest, event_hash
from tailrace.pipeline.backfill.fence import Fence
from tailrace.pipeline.backfill.parameters import Parameter
from tailrace.pipeline.backfill.transfer import Transfer
from tailrace.pipeline.runtime import runtime

_COMPARED_A_SECOND = 25_000
_SLICE_MAX_ROWS = 100_000


class Copy(Transfer):
    """Copies a measurement's events, or a model's readings."""

    name = "copy"
    title = "Copy to another backend"
    description = (
        "Copies a measurement or a model of readings from one backend to another, adding what is "
        "missing there and nothing twice, while both go on being written."
    )

    def parameters(self) -> Sequence[Parameter]:
        return ends_parameters()

    def check(self, values: Values) -> None:
        backends_of(values)
        super().check(values)

    def source(self, values: Values) -> Source:
        return source_of(backends_of(values)[0], selection_of(values))

    def sink(self, values: Values) -> Sink:
        target, selection = backends_of(values)[1], selection_of(values)
        return sink_of(target, selection, wait_of(values))

    def plan(self, values: Values) -> Iterator[Slice]:
        return plan_of(values)

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        if (pair := _pair(context.values)) is not None:
            result: StepResult = pair.run(context, slice_)
            return result
        return super().run(context, slice_)

    def finish(self, values: Values, total: StepResult) -> Sequence[str]:
        name, source, target = values["measurement"], values["source"], values["target"]
        dual = (
            f"New {name!r} events reach both, so {target!r} stays complete."
            if runtime().config.backends[target].accepts(selection_of(values).measurement)
            else f"New {name!r} events do not reach {target!r} yet: have it accept them "
            "(TAILRACE['BACKENDS'], docs/backfills.md) and run this again; it adds what came since."
        )
        return (
            dual,
            f"Compare both: manage.py tailrace_backfill compare --source {source} --target "
            f"{target} --measurement {name}",
            f"Then read from {target!r} (get_backend({target!r})), and take {name!r} from "
            f"{source!r} when nothing reads it there any more.",
        )


class Compare(Kind):
    """Compares a measurement's events, or a model's readings, at two backends."""

    name = "compare"
    title = "Compare two backends"
    description = (
        "Counts and checksums a measurement or a model of readings at two backends, slice by "
        "slice; slices that differ end as failed steps that say in what. Changes nothing."
    )

    def parameters(self) -> Sequence[Parameter]:
        return ends_parameters()

    def check(self, values: Values) -> None:
        for backend in backends_of(values):
            if not backend.features.keeps_events:
                raise BackfillRefused(f"backend {backend.alias!r} keeps nothing to compare")
        source_of(backends_of(values)[0], selection_of(values)).check()

    def estimate(self, values: Values) -> Estimate:
        found = source_of(backends_of(values)[0], selection_of(values)).estimate()
        seconds = 2 * found.rows / _COMPARED_A_SECOND
        return Estimate(rows=found.rows, seconds=seconds, is_exact=found.is_exact)

    def plan(self, values: Values) -> Iterator[Slice]:
        return plan_of(values)

    def run(self, context: StepContext, slice_: Slice) -> StepResult:
        selection = selection_of(context.values)
        source, target = (source_of(backend, selection) for backend in backends_of(context.values))
        here, digest = Counter[tuple[bytes, int]](), Digest()
        for piece in source.read(slice_):
            digest.add(piece)
            here.update((event.id, event_hash(event)) for event in piece)
        context.alive()
        if (wait := wait_of(context.values)) is not None:
            wait(context.alive)
        there, other = Counter[tuple[bytes, int]](), Digest()
        for piece in target.read(slice_):
            other.add(piece)
            there.update((event.id, event_hash(event)) for event in piece)
        lost, extra = here - there, there - here
        changed = {event_id for event_id, _ in lost} & {event_id for event_id, _ in extra}
        notes: tuple[str, ...] = ()
        if lost or extra:
            notes = (
                f"at the target, {lost.total() - len(changed)} are missing, "
                f"{extra.total() - len(changed)} are there beside them, {len(changed)} differ",
            )
        return StepResult(
            rows_read=digest.rows,
            rows_present=(here & there).total(),
            source_digest=str(digest),
            target_digest=str(other),
            notes=notes,
        )

    def finish(self, values: Values, total: StepResult) -> Sequence[str]:
        if total.source_digest and total.source_digest == total.target_digest:
            return (f"compared and equal: {total.source_digest}",)
        return ()


def ends_parameters() -> Sequence[Parameter]:
    """Return what both kinds ask for."""
    aliases = tuple((alias, alias) for alias in runtime().aliases)
    return (
        Parameter(
            name="source", type="choice", choices=aliases, is_required=True, label="From backend"
        ),
        Parameter(
            name="target", type="choice", choices=aliases, is_required=True, label="To backend"
        ),
        Parameter(
            name="measurement",
            is_required=True,
            label="Measurement",
            help="A measurement, or a model of readings as app_label.ModelName.",
        ),
        Parameter(name="start", type="time", label="From", help="Without: from the first one."),
        Parameter(name="end", type="time", label="To", help="Without: to the last one there is."),
        Parameter(
            name="slice_rows",
            type="integer",
            label="Rows in a step",
            minimum=100,
            maximum=_SLICE_MAX_ROWS,
            help="Without: what the target does in a second or so.",
        ),
    )


def selection_of(values: Values) -> Selection:
    """Return what parameters select."""
    rows = values["slice_rows"] or SLICE_ROWS
    return Selection.make(values["measurement"], values["start"], values["end"], rows)


def plan_of(values: Values) -> Iterator[Slice]:
    """Cut what is selected into steps, as large as was asked for or as the target likes them."""
    source, target = backends_of(values)
    selection = selection_of(values)
    find = getattr(target, "backfill_step_rows", None)
    if not values["slice_rows"] and find is not None:
        selection = selection._replace(slice_rows=find())
    return source_of(source, selection).slices()


def backends_of(values: Values) -> tuple[BaseBackend, BaseBackend]:
    """Return source and target.

    Raises:
        BackfillRefused: they are the same, or one of them cannot be made.
    """
    try:
        source, target = (get_backend(values[name]) for name in ("source", "target"))
    except ImproperlyConfigured as error:
        raise BackfillRefused(str(error)) from error
    alias = source.get_db_alias()
    if source is target or (alias is not None and alias == target.get_db_alias()):
        raise BackfillRefused(
            f"{values['source']!r} and {values['target']!r} store in the same place; choose two "
            "that do not"
        )
    return source, target


def wait_of(values: Values) -> Waiting | None:
    """Return what waits for the target's own drain; ``None`` where it brings none of these."""
    source, target = backends_of(values)
    process = runtime()
    measurement = selection_of(values).measurement
    if not process.config.backends[target.alias].accepts(measurement):
        return None
    return Fence(process, source, target).wait


def _pair(values: Values) -> Any:
    """Return the fast way between two databases of a kind, where there is one."""
    source, target = backends_of(values)
    selection = selection_of(values)
    # Exceptions are counted by kind when they are stored, which needs them as events.
    is_plain = selection.model is None and selection.measurement != EXCEPTIONS
    find = getattr(target, "backfill_pair", None)
    return find(source, selection.measurement, wait_of(values)) if find and is_plain else None
