"""``manage.py tailrace_replay``: put dead letters back."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from itertools import islice
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from tailrace.django_integration.management.base import TailraceCommand
from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.event import INT_MAX
from tailrace.pipeline.parked import LIST_LETTERS, LetterSelection
from tailrace.pipeline.replay import Replay, ReplayResult
from tailrace.pipeline.runtime import Runtime, runtime

_REASON_CHARS = 100
_SHOWN_LETTERS = 20
_DIGITS = 20


class Command(TailraceCommand):
    """Replay dead letters; exit 0 only if all that were selected went through."""

    help = (
        "Put dead letters back: events that could not be stored, once their storage would take "
        "them. Without a selection, show what waits. Exit status 1 unless all went through."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--backend", default="default", metavar="ALIAS")
        parser.add_argument("--measurement", metavar="M", help="only letters of this measurement")
        parser.add_argument("--reason", metavar="TEXT", help="only those whose reason contains it")
        parser.add_argument(
            "--id",
            nargs="+",
            type=_positive,
            action="extend",
            metavar="N",
            dest="ids",
            help="only these",
        )
        parser.add_argument("--all", action="store_true", help="all that wait")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        parser.add_argument("--limit", type=_positive, metavar="N", help="at most so many letters")

    def handle(self, *args: Any, **options: Any) -> None:
        process = runtime()
        alias = options["backend"]
        if alias not in process.aliases:
            raise CommandError(f"no backend {alias!r}; there are: {', '.join(process.aliases)}")
        selection = _selection(options)
        try:
            if selection is None:
                self._summary(process, alias)
            else:
                self._replay(process, alias, selection, options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except BackendError as error:
            raise CommandError(
                f"{error} What was replayed before is stored, and nothing is lost or doubled; "
                "run it again."
            ) from error

    def _summary(self, process: Runtime, alias: str) -> None:
        counts = process.backend(alias).dead_letter_counts()
        if not counts:
            self.stdout.write(f"no dead letters wait in backend {alias}")
            return
        self.stdout.write(f"backend {alias}: dead letters that wait")
        self.stdout.write(f"{'measurement':<20} {'letters':>8} {'events':>8}  reason")
        for count in counts:
            reason = _line(count.reason)
            self.stdout.write(
                f"{count.measurement:<20} {count.letters:>8} {count.events:>8}  {reason}"
            )
        self.stdout.write(
            "Replay them with --all, or choose with --measurement, --reason or --id; "
            "--dry-run shows what would be done."
        )

    def _replay(
        self, process: Runtime, alias: str, selection: LetterSelection, options: dict[str, Any]
    ) -> None:
        replay = Replay(process.backend(alias), process.config.backends[alias].accepts)
        _check_ids(replay, selection)
        is_dry = options["dry_run"]
        found = self._announce(replay, selection, options["limit"], is_dry)
        if is_dry or not found:
            return
        total = replay.run(
            selection, limit=options["limit"], on_slice=lambda done: self._progress(done, options)
        )
        self._report(total)
        if total.has_failures:
            raise SystemExit(1)

    def _announce(
        self, replay: Replay, selection: LetterSelection, limit: int | None, is_dry: bool
    ) -> int:
        """Say which letters are meant, without reading more of them than are shown."""
        first = list(islice(replay.listed(selection), min(limit or LIST_LETTERS, LIST_LETTERS)))
        shown = first[:_SHOWN_LETTERS] if is_dry else []
        more = " or more" if len(first) == LIST_LETTERS and limit != LIST_LETTERS else ""
        verb = "would replay" if is_dry else "replaying"
        self.stdout.write(f"{verb} {len(first)}{more} letters" if first else "nothing to replay")
        for letter in shown:
            self.stdout.write(
                f"  {letter.id}  {letter.measurement}  {letter.events} events  "
                f"{_line(letter.reason)}"
            )
        if len(first) > len(shown) > 0:
            self.stdout.write(f"  ... and {len(first) - len(shown)}{more} more")
        return len(first)

    def _progress(self, done: ReplayResult, options: dict[str, Any]) -> None:
        if options["verbosity"] > 1:
            self.stdout.write(f"  {done.replayed} replayed so far")

    def _report(self, total: ReplayResult) -> None:
        self.stdout.write(
            f"replayed {total.replayed} letters, {total.events} events stored; "
            f"refused again {total.refused}, not replayable {total.impossible}, "
            f"replayed by others meanwhile {total.gone}"
        )
        if total.split:
            self.stdout.write(
                f"{total.split} events of replayed frames were refused; each is a letter now"
            )
        for letter_id, reason in total.details:
            self.stdout.write(self.style.ERROR(f"  {letter_id}: {_line(reason)}"))
        left = total.refused + total.impossible - len(total.details)
        if left > 0:
            self.stdout.write(f"  ... and {left} more")
        if not total.is_complete:
            self.stdout.write("more letters wait than --limit allowed; run it again for them")


def _selection(options: dict[str, Any]) -> LetterSelection | None:
    ids, measurement, reason = options["ids"], options["measurement"], options["reason"]
    if not (options["all"] or ids or measurement is not None or reason is not None):
        if options["dry_run"] or options["limit"] is not None:
            raise CommandError("say which letters: --all, --measurement, --reason or --id")
        return None
    chosen = tuple(sorted(set(ids))) if ids else None
    return LetterSelection(ids=chosen, measurement=measurement, reason=reason)


def _check_ids(replay: Replay, selection: LetterSelection) -> None:
    """Refuse ids that are nobody's; those that were replayed before are fine."""
    if selection.ids is None:
        return
    anywhere = LetterSelection(ids=selection.ids, only_waiting=False)
    missing = set(selection.ids) - {letter.id for letter in replay.listed(anywhere)}
    if missing:
        names = ", ".join(map(str, sorted(missing)))
        raise CommandError(f"this backend has no dead letter {names}; nothing was replayed")


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < _DIGITS else 0
    if not 1 <= number <= INT_MAX:
        raise ArgumentTypeError(f"{text[:40]!r} is no number from 1 to {INT_MAX}")
    return number


def _line(text: str) -> str:
    """Return a reason on one line: it may hold anything that somebody sent."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if len(printable) <= _REASON_CHARS else printable[: _REASON_CHARS - 3] + "..."
