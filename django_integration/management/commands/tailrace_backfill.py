"""``manage.py tailrace_backfill``: start, watch and stop backfills."""

from __future__ import annotations

import getpass
import json
import signal
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from tailrace.django_integration.backfills import service
from tailrace.django_integration.backfills.shown import bar, estimated, summed_up
from tailrace.django_integration.management.base import TailraceCommand
from tailrace.pipeline.backfill.contracts import BackfillRefused
from tailrace.pipeline.backfill.parameters import Parameter, ParameterError
from tailrace.pipeline.backfill.records import DONE, RUNNING
from tailrace.pipeline.errors import BackendError, TransientBackendError

_ACTIONS = ("list", "show", "work", "pause", "resume", "cancel", "retry")
_WAIT_SECONDS = 0.5
_DRAW_SECONDS = 0.5


class Command(TailraceCommand):
    """Runs a backfill here; exit 0 only if all of its steps are done."""

    help = (
        "Copy, compare, recompute, replay, import or export history. Give a kind and its "
        "parameters to start one and work on it here (Ctrl-C pauses it); or list, show, work, "
        "pause, resume, cancel, retry with a backfill's id. Exit status 1 unless all is done."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON, one object a line")
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name in _ACTIONS:
            action = actions.add_parser(name, help=f"{name} a backfill")
            if name != "list":
                action.add_argument("uid", help="its id, or the first digits of it")
        for kind in service.kinds().values():
            own = actions.add_parser(kind.name, help=kind.title, description=kind.description)
            for parameter in kind.parameters():
                _add_parameter(own, parameter)
            own.add_argument("--dry-run", action="store_true", help="only say what it would do")
            own.add_argument("--workers", type=int, default=service.WORKERS, metavar="N")
            own.add_argument(
                "--no-throttle", action="store_true", help="do not wait for live traffic"
            )
            own.add_argument(
                "--detach", action="store_true", help="leave the work to Celery's workers"
            )

    def handle(self, *args: Any, **options: Any) -> None:
        self._is_json = options["json"]
        self._is_stopped = False
        try:
            self._do(options)
        except ParameterError as error:
            told = "; ".join(f"--{_dashed(n)} {text}" for n, text in error.problems.items())
            raise CommandError(told) from error
        except (BackfillRefused, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except BackendError as error:
            raise CommandError(f"{error} Nothing is lost; run it again.") from error

    def _do(self, options: dict[str, Any]) -> None:
        action = options["action"]
        if action == "list":
            for record in service.recent():
                self._show(record.uid)
        elif action in _ACTIONS:
            self._act(action, _found(options["uid"]))
        else:
            self._start(action, options)

    def _act(self, action: str, uid: str) -> None:
        by = _user()
        if action == "show":
            self._show(uid, with_log=True)
        elif action == "work":
            self._work(uid)
        elif action == "retry":
            if not service.retry(uid, by):
                raise CommandError("no step of it has failed")
            self._work(uid)
        elif action == "resume":
            self._changed(uid, service.resume(uid, by), action)
            self._work(uid)
        else:
            change = service.pause if action == "pause" else service.cancel
            self._changed(uid, change(uid, by), action)
            self._show(uid)

    def _changed(self, uid: str, is_changed: bool, action: str) -> None:
        progress = service.progress(uid)
        if not is_changed and progress is not None:
            raise CommandError(f"it is {progress.record.state}, so there is nothing to {action}")

    def _start(self, kind: str, options: dict[str, Any]) -> None:
        names = [parameter.name for parameter in service.kinds()[kind].parameters()]
        given = {name: options[name] for name in names if options[name] is not None}
        preview = service.preview(kind, given)
        if options["dry_run"]:
            self._say({"kind": kind, "estimate": preview.estimate}, estimated(preview.estimate))
            return
        uid = service.start(
            kind,
            preview.values,
            created_by=_user(),
            workers=options["workers"],
            is_throttled=not options["no_throttle"],
            estimate=preview.estimate,
        )
        told = f"backfill {uid[:8]}: {estimated(preview.estimate)}"
        self._say({"uid": uid, "kind": kind, "estimate": preview.estimate}, told)
        if not options["detach"]:
            self._work(uid)

    def _work(self, uid: str) -> None:
        """Work until the end, or until Ctrl-C, which pauses it."""
        before = [(n, signal.signal(n, self._stop)) for n in (signal.SIGINT, signal.SIGTERM)]
        try:
            self._work_on(uid)
        finally:
            for number, handler in before:
                signal.signal(number, handler)
        progress = service.progress(uid)
        assert progress is not None, "a backfill stays as a record"
        self._show(uid, is_end=True)
        if progress.record.state != DONE:
            raise SystemExit(1)

    def _work_on(self, uid: str) -> None:
        self._drawn, self._told = 0.0, ""
        while True:
            try:
                outcome = service.work(uid, _WAIT_SECONDS, lambda: self._stop_or_draw(uid))
            except TransientBackendError as error:
                self.stderr.write(f"{error} Trying again.")
                outcome = "waiting"
            if outcome == "ended":
                return
            self._stop_or_draw(uid)
            if outcome == "waiting":
                self._say_why(uid)
                time.sleep(_WAIT_SECONDS)

    def _say_why(self, uid: str) -> None:
        """Say on standard error why it waits, once each time that the log says it."""
        progress = service.progress(uid)
        last = progress.log[-1] if progress is not None and progress.log else ""
        if "put off" in last and last != self._told:
            self._told = last
            self.stderr.write(self.style.WARNING(last))

    def _stop_or_draw(self, uid: str) -> None:
        if self._is_stopped:
            self._is_stopped = False
            if service.pause(uid, _user()):
                self._say({"uid": uid, "state": "paused"}, _PAUSED.format(uid=uid[:8]))
        if time.monotonic() - self._drawn >= _DRAW_SECONDS:
            self._drawn = time.monotonic()
            self._draw(uid)

    def _draw(self, uid: str) -> None:
        progress = service.progress(uid)
        if progress is None or progress.record.state != RUNNING:
            return
        if self._is_json:
            self.stdout.write(json.dumps(summed_up(progress)))
        elif self.stdout.isatty():
            self.stdout.write(f"\r{bar(progress)}\x1b[K", ending="")
            self.stdout.flush()

    def _show(self, uid: str, with_log: bool = False, is_end: bool = False) -> None:
        progress = service.progress(uid)
        assert progress is not None, "found before"
        if self._is_json:
            self.stdout.write(json.dumps(summed_up(progress, with_log=with_log)))
            return
        start = "\n" if is_end and self.stdout.isatty() else ""
        self.stdout.write(f"{start}{bar(progress)}")
        for number, label, reason in progress.failures if with_log or is_end else ():
            self.stdout.write(self.style.ERROR(f"  step {number} ({label}): {reason}"))
        for note in progress.record.finish_notes if is_end else ():
            self.stdout.write(f"  {note}")
        for line in progress.log if with_log else ():
            self.stdout.write(f"  {line}")

    def _say(self, data: dict[str, Any], text: str) -> None:
        line = msgspec.json.encode(data).decode() if self._is_json else text
        self.stdout.write(line)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Pause after the step at hand; a second time, end at once, which harms nothing."""
        if self._is_stopped:
            raise KeyboardInterrupt
        self._is_stopped = True


_PAUSED = "paused; go on with: manage.py tailrace_backfill resume {uid}"


def _add_parameter(parser: ArgumentParser, parameter: Parameter) -> None:
    words = [parameter.help or parameter.label]
    if parameter.choices and parameter.type == "choice":
        words.append(f"one of: {', '.join(value for value, _ in parameter.choices)}")
    if parameter.default is not None:
        words.append(f"{parameter.default} without")
    options: dict[str, Any] = {"help": "; ".join(words).replace("%", "%%")}
    if parameter.type == "lines":
        options["action"] = "append"
    elif parameter.type == "boolean":
        options.update(nargs="?", const="true", metavar="true|false")
    parser.add_argument(
        f"--{_dashed(parameter.name)}",
        dest=parameter.name,
        required=parameter.is_required and parameter.default is None,
        **{"metavar": parameter.name.upper(), **options},
    )


def _found(prefix: str) -> str:
    uids = [record.uid for record in service.recent(1000) if record.uid.startswith(prefix)]
    if len(uids) != 1:
        raise CommandError(f"{len(uids) or 'no'} backfills have an id that starts with {prefix!r}")
    return uids[0]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "manage.py"
