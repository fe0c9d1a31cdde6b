"""Rollups as downsampling tasks of InfluxDB: made, listed, changed and removed with the settings.

Each level of a rollup is one task. It reads the events of the last while, and writes one point a
bucket and group to the bucket ``<bucket> rollups``, stamped with the bucket's start::

    request,tailrace.rollup=requests:1\\ hour,route=a duration_ms.count=7i,duration_ms.sum=81.5,...

Whole buckets are computed anew each time, and a point of the same bucket and group replaces the
one before, so that a task which runs twice, or late, changes nothing. ``start_offset`` says how
far back late events still count.

``aggregate()`` does not read these points: it is exact from the events. They are for dashboards of
InfluxDB's own, and for when the events are gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tailrace.backends.rollups.declaration import from_text, to_text
from tailrace.pipeline.errors import BackendMisconfigured
from tailrace.pipeline.rollup import Rollup

from .answers import Malformed
from .client import InfluxApi
from .reading import flux, stored
from .reading.flux import Flux
from .reading.selection import Ask, of_fields, to_ns
from .server import Buckets
from .task_scripts import (
    DAY_SECONDS,
    IMPORTS,
    NUMBERS_ONLY,
    aggregate_window,
    check,
    moving_window,
    renamed,
    seconds_of,
    source_of,
)

ROLLUP_TAG = "tailrace.rollup"
TASKS_LISTED = 500
_TASKS = "/api/v2/tasks"
_JSON = {"Content-Type": "application/json"}
_PARTS = ("count", "sum", "min", "max")


@dataclass(frozen=True)
class Task:
    """A task of ours, as the server has it."""

    id: str
    name: str
    script: str
    description: str
    is_active: bool
    last_run_status: str
    """``success``, ``failed``, ``canceled``; nothing before the first run."""


@dataclass(frozen=True)
class Changes:
    """Names of the tasks that were made, changed and removed."""

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class RollupTasks:
    """The tasks of one bucket's rollups."""

    def __init__(self, api: InfluxApi, ask: Ask, bucket: str, kind: str = "rollup") -> None:
        """Take the server, what sends queries to it, and the bucket that has the events.

        Args:
            api: The server.
            ask: Sends queries to it.
            bucket: Which has the events.
            kind: A word in the tasks' names. Tasks of another kind are another's concern.
        """
        self._api = api
        self._ask = ask
        self._bucket = bucket
        # With an end that no bucket's name has: "web" is not "web eu".
        self._prefix = f'tailrace {kind} "{bucket}" '

    @property
    def target(self) -> str:
        """The bucket that the rollups are written to."""
        return f"{self._bucket} rollups"

    def sync(self, rollups: Iterable[Rollup]) -> Changes:
        """Make the tasks be those of the declared rollups.

        Args:
            rollups: All there are to be; tasks of others are removed.

        Raises:
            NotSupportedByBackend: a rollup cannot be a task; nothing was changed.
            BackendMisconfigured: the token may not do that.
        """
        wanted = {
            self._name(rollup, level): self.script(rollup, level)
            for rollup in rollups
            for level in range(len(rollup.widths))
        }
        if wanted:
            Buckets(self._api, self._api.server.org).ensure(self.target, None)
        there = {task.name: task for task in self._without_copies()}
        changed = [n for n in wanted if n in there and not _is_current(there[n], wanted[n])]
        for name in wanted.keys() - there.keys():
            body = {"org": self._api.server.org, "flux": wanted[name], "status": "active"}
            self._send("POST", _TASKS, body)
        for name in changed:
            body = {"flux": wanted[name], "status": "active"}
            self._send("PATCH", f"{_TASKS}/{there[name].id}", body)
        gone = sorted(there.keys() - wanted.keys())
        for name in gone:
            self.remove(there[name])
        created = sorted(wanted.keys() - there.keys())
        return Changes(tuple(created), tuple(sorted(changed)), tuple(gone))

    def list_tasks(self) -> Sequence[Task]:
        """Return the tasks of this bucket's rollups, by name."""
        found = [task for task in self._all() if task.name.startswith(self._prefix)]
        return sorted(found, key=lambda task: task.name)

    def remove(self, task: Task) -> None:
        """Remove a task; the points that it made stay."""
        self._api.call("DELETE", f"{_TASKS}/{task.id}")

    def materialise(
        self, rollup: Rollup, level: int, start: datetime | None, end: datetime
    ) -> None:
        """Compute buckets now: those of history, or after a backfill.

        Args:
            rollup: Whose.
            level: Number of the width.
            start: First instant, which should be a bucket's; from the beginning without.
            end: First instant that is not computed, likewise.
        """
        check(rollup, rollup.widths[level])
        first = flux.NS_FIRST if start is None else to_ns(start)
        window = [
            Flux(f"start = {flux.time(first).text}"),
            Flux(f"stop = {flux.time(to_ns(end)).text}"),
        ]
        for _ in self._ask(flux.program(IMPORTS, *window, *self._body(rollup, level))):
            pass

    def script(self, rollup: Rollup, level: int) -> str:
        """Return the task of a level.

        Raises:
            NotSupportedByBackend: Flux cannot do what is declared; says what, and what can.
        """
        width = rollup.widths[level]
        check(rollup, width)
        # More often than once a bucket, there is nothing new but what came late.
        width_seconds = min(seconds_of(width), DAY_SECONDS)
        every = flux.seconds(max(rollup.schedule_interval.seconds, width_seconds))
        name = flux.text(self._name(rollup, level))
        option = Flux(f"option task = {{name: {name.text}, every: {every.text}}}")
        return flux.program(
            IMPORTS, option, *moving_window(rollup, width), *self._body(rollup, level)
        )

    def declare(self, rollup: Rollup) -> bool:
        """Make a rollup's task beside those there are; whether it is new.

        Raises:
            ValueError: another one has its name, with other buckets.
            NotSupportedByBackend: it cannot be a task.
        """
        name, script = self._name(rollup, 0), self.script(rollup, 0)
        for task in self._without_copies():
            if _source_name(task.name) != _source_name(name):
                continue
            if task.name != name or _computed(task.script) != _computed(script):
                raise ValueError(
                    f"there is a continuous aggregate {rollup.name!r} already, and it computes "
                    "something else; drop it first, or take another name"
                )
            if not _is_current(task, script):
                self._send("PATCH", f"{_TASKS}/{task.id}", {"flux": script, "status": "active"})
            return False
        Buckets(self._api, self._api.server.org).ensure(self.target, None)
        body = {"org": self._api.server.org, "flux": script, "status": "active"}
        self._send("POST", _TASKS, {**body, "description": to_text(rollup)})
        return True

    def declared(self, name: str) -> tuple[Task, Rollup]:
        """Return the task that :meth:`declare` made, and its rollup.

        Raises:
            ValueError: there is none.
        """
        for task in self.list_tasks():
            if _source_name(task.name) == self._prefix + name:
                return task, from_text(name, task.description)
        raise ValueError(f"there is no continuous aggregate {name!r}")

    def _without_copies(self) -> Iterator[Task]:
        """Yield the tasks; remove those that a request made that was sent twice."""
        names: set[str] = set()
        for task in self.list_tasks():
            if task.name in names:
                self.remove(task)
            else:
                names.add(task.name)
                yield task

    def _name(self, rollup: Rollup, level: int) -> str:
        return self._prefix + rollup.level_name(level)

    def _body(self, rollup: Rollup, level: int) -> Iterator[Flux]:
        measurement, tags = source_of(rollup)
        mark = flux.is_one_of("_measurement", [measurement])
        begin = Flux(f"from(bucket: {flux.text(self._bucket).text})")
        within = Flux("range(start: start, stop: stop)")
        target, org = flux.text(self.target), flux.text(self._api.server.org)
        to_bucket = Flux(f"to(bucket: {target.text}, org: {org.text})")
        own = Flux(
            f"set(key: {flux.text(ROLLUP_TAG).text}, "
            f"value: {flux.text(stored.tag_value(rollup.level_name(level))).text})"
        )
        for name, parts in [(None, ("count",)), *((name, _PARTS) for name in rollup.fields)]:
            keys = [stored.ID]
            if name is not None:
                keys = [stored.own_key(name), *stored.number_keys(name)]
            for part in parts:
                yield flux.pipeline(
                    begin,
                    within,
                    flux.where(flux.all_of([mark, of_fields(keys)])),
                    *([] if name is None else [NUMBERS_ONLY]),
                    flux.group(["_measurement", "_field", *tags]),
                    aggregate_window(rollup.widths[level], part),
                    renamed(None if name is None else stored.own_key(name), part),
                    own,
                    to_bucket,
                    flux.yields(f"{name or ''}.{part}"),
                )

    def _all(self) -> Iterator[Task]:
        after = ""
        while True:
            parameters = {"org": self._api.server.org, "limit": str(TASKS_LISTED)}
            if after:
                parameters["after"] = after
            found = self._api.call("GET", _TASKS, parameters).json().get("tasks") or []
            for each in found:
                status = each.get("status") == "active"
                last = each.get("lastRunStatus") or ""
                script, about = each.get("flux", ""), each.get("description") or ""
                yield Task(each["id"], each["name"], script, about, status, last)
            if len(found) < TASKS_LISTED:
                return
            after = found[-1]["id"]

    def _send(self, method: str, path: str, body: Any) -> None:
        try:
            self._api.call(method, path, None, json.dumps(body).encode(), _JSON)
        except Malformed as error:
            raise BackendMisconfigured(f"InfluxDB refuses a rollup's task: {error}") from error


def _is_current(task: Task, script: str) -> bool:
    return task.is_active and task.script.strip() == script.strip()


def _source_name(name: str) -> str:
    """Return a task's name without the width at its end."""
    return name.rpartition(":")[0]


def _computed(script: str) -> list[str]:
    """Return the lines of a script that say what is computed; the others say when."""
    own = ("option task", "start = ", "stop = ")
    return [line for line in script.splitlines() if not line.startswith(own)]
