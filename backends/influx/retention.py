"""``TAILRACE["RETENTION"]`` on InfluxDB: one age for the bucket, deletes for what is younger.

A bucket forgets points by age, all of them alike, and cheaply: whole shards go. So the bucket
gets the longest age that any policy asks for, and what goes earlier is deleted by measurement.
InfluxDB deletes by time and by tags that *equal* something, and counts nothing. So HOLD, BY_TAG,
MAX_ROWS and MAX_SIZE cannot be applied; a measurement with one of those is kept as long as the
longest of its ages, and for ever where it has HOLD.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from django.apps import apps

from tailrace.backends.written_models import measurement_of, written_models
from tailrace.pipeline.interval import Interval
from tailrace.pipeline.retention import EVERYTHING, Policy, level_policy, source_policy
from tailrace.pipeline.rollup import Rollup

from .answers import Missing
from .reading import flux, stored
from .reading.deletion import predicate
from .reading.flux import Flux
from .reading.selection import to_ns
from .server import Buckets
from .tasks import ROLLUP_TAG

BUCKET_LEAST_SECONDS = 3600
_MEASUREMENTS = Flux('import "influxdata/influxdb/schema"')


class Swept(str):
    """What a sweep did, as text."""

    is_finished = True


class Target(Protocol):
    """What is swept: see ``InfluxDBBackend``."""

    bucket: str

    def _ask(self, text: str) -> Any: ...
    def _delete_points(
        self, start_ns: int, end_ns: int, predicate: str, bucket: str = ""
    ) -> None: ...


@dataclass(frozen=True)
class Ages:
    """How long a measurement's points stay."""

    longest_seconds: int | None
    """Nothing goes before; ``None``: for ever."""
    plain: Interval | None
    """All that is older goes; ``None``: that cannot be said in a delete, or nothing goes."""


def ages_of(policy: Policy | None) -> Ages:
    """Return what of a policy InfluxDB can apply."""
    if policy is None or policy.drop_after is None or policy.hold:
        return Ages(None, None)
    found = [policy.drop_after, *(after for _, after in policy.by_tag)]
    longest = max(_seconds(each) for each in found)
    return Ages(longest, policy.drop_after if not policy.by_tag else None)


def bucket_seconds(policies: Mapping[str, Policy]) -> int | None:
    """Return the age that a bucket gets: 0 for ever, ``None`` to leave what it has.

    It is left without a policy for everything: then nobody has said what is to go.
    """
    if EVERYTHING not in policies:
        return None
    ages = [ages_of(each).longest_seconds for each in policies.values() if not each.is_of_rollup]
    longest = [each for each in ages if each is not None]
    return max(*longest, BUCKET_LEAST_SECONDS) if len(longest) == len(ages) else 0


def apply(
    backend: Target,
    buckets: Buckets | None,
    policies: Mapping[str, Policy],
    rollups: Sequence[Rollup],
) -> Swept:
    """Apply policies.

    Args:
        backend: The backend.
        buckets: Of the server; ``None``: the bucket keeps its age.
        policies: By target.
        rollups: The declared ones.

    Raises:
        TransientBackendError, BackendMisconfigured: it is tried again.
    """
    if not policies:
        return Swept("no policies")
    done = []
    wanted = bucket_seconds(policies)
    if buckets is not None and wanted is not None and buckets.ensure(backend.bucket, wanted):
        kept = f"for {timedelta(seconds=wanted)}" if wanted else "for ever"
        done.append(f"bucket keeps points {kept}")
    now = datetime.now(UTC)
    for measurement, after in _young(backend, policies, wanted or 0):
        _delete(backend, {"_measurement": measurement}, after.before(now))
        done.append(f"{measurement}: deleted before {after.before(now):%Y-%m-%d %H:%M}")
    for rollup in rollups:
        for level in range(len(rollup.widths)):
            policy = level_policy(policies, rollup, level)
            if policy is None or policy.drop_after is None:
                continue
            tags = {ROLLUP_TAG: stored.tag_value(rollup.level_name(level))}
            try:
                bucket = f"{backend.bucket} rollups"
                _delete(backend, tags, policy.drop_after.before(now), bucket)
            except Missing:
                break  # no task has made it yet
    return Swept("; ".join(done) or "nothing due")


def _young(
    backend: Target, policies: Mapping[str, Policy], bucket_age: int
) -> Iterator[tuple[str, Interval]]:
    """Yield the stored measurements that go earlier than the bucket's age, and when."""
    start, stop = flux.time(flux.NS_FIRST), flux.time(flux.NS_END)
    listing = Flux(
        f"schema.measurements(bucket: {flux.text(backend.bucket).text}, "
        f"start: {start.text}, stop: {stop.text})"
    )
    by_source = {_measurement(target): policy for target, policy in policies.items()}
    for block, cells in backend._ask(flux.program(_MEASUREMENTS, listing)):
        name = block.value(cells, "_value")
        after = ages_of(source_policy(by_source, stored.plain_measurement(name))).plain
        if after is not None and not 0 < bucket_age <= _seconds(after):
            yield name, after


def _measurement(target: str) -> str:
    """Return what a policy's target is called in the bucket; a model has its readings' name."""
    if target in written_models() or not Rollup.is_label(target):
        return target
    try:
        return measurement_of(apps.get_model(target))
    except LookupError:
        return target  # the system checks say so


def _delete(backend: Target, tags: dict[str, str], before: datetime, bucket: str = "") -> None:
    backend._delete_points(flux.NS_FIRST, to_ns(before), predicate(tags), bucket)


def _seconds(interval: Interval) -> int:
    # A bucket knows no calendar: better too long than too short.
    return interval.seconds or interval.months * 31 * 86_400
