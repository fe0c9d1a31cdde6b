"""Replay, as the admin's buttons do it."""

from __future__ import annotations

from itertools import islice
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.parked import LetterSelection
from tailrace.pipeline.replay import Replay, ReplayResult
from tailrace.pipeline.runtime import runtime

from . import render
from .storage import PARAMETER, backends_by_database, chosen_database

PERMISSION = "tailrace.change_deadletter"
REPLAY_SECONDS = 15.0
"""What one request may take; the rest waits for the next one, or for the command."""
_SHOWN_LETTERS = 10
_SHOWN_REASONS = 3


def may_replay(request: HttpRequest) -> bool:
    """Return whether this person may replay."""
    return bool(request.user.has_perm(PERMISSION))


def replay_selected(model_admin: Any, request: HttpRequest, ids: list[int]) -> None:
    """Replay the letters with these ids, and say how it went."""
    if not may_replay(request):
        raise PermissionDenied
    selection = LetterSelection(ids=tuple(ids))
    _replay(model_admin, request, _backends(request), selection)


def replay_matching(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Show what a filter means on GET, and replay it on POST."""
    if not may_replay(request):
        raise PermissionDenied
    backends = _backends(request)
    selection = LetterSelection(
        measurement=request.GET.get("measurement") or None,
        reason=request.GET.get("reason") or None,
    )
    alias = chosen_database(request)
    query = {name: value for name, value in request.GET.items() if name != PARAMETER}
    back = model_admin.url("deadletter", "changelist", alias=alias, **query)
    if request.method == "POST":
        _replay(model_admin, request, backends, selection)
        return HttpResponseRedirect(back)
    first = [letter for name in backends for letter in islice(_listed(name, selection), 11)]
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Replay all that match",
        "opts": model_admin.opts,
        "media": model_admin.media,
        "backends": backends,
        "selection": selection,
        "letters": [
            (one.id, one.measurement, render.short(one.reason, 160))
            for one in first[:_SHOWN_LETTERS]
        ],
        "has_more": len(first) > _SHOWN_LETTERS,
        "seconds": round(REPLAY_SECONDS),
        "back_url": back,
    }
    return TemplateResponse(request, "tailrace/admin/replay.html", context)


def _backends(request: HttpRequest) -> list[str]:
    """Return the backends whose letters are meant."""
    known = backends_by_database().get(chosen_database(request), [])
    wanted = request.GET.get("backend")
    return [name for name in known if wanted in (None, "", name)]


def _replay_of(alias: str) -> Replay:
    process = runtime()
    return Replay(process.backend(alias), process.config.backends[alias].accepts)


def _listed(alias: str, selection: LetterSelection) -> Any:
    return _replay_of(alias).listed(selection)


def _replay(
    model_admin: Any, request: HttpRequest, backends: list[str], selection: LetterSelection
) -> None:
    total = ReplayResult()
    try:
        for alias in backends:
            done = _replay_of(alias).run(
                selection, seconds=REPLAY_SECONDS, on_slice=lambda so_far: None
            )
            total.add(done)
            total.is_complete = total.is_complete and done.is_complete
    except BackendError as error:
        text = f"{error} What was replayed before is stored; nothing is lost or doubled. Try again."
        model_admin.message_user(request, text, messages.ERROR)
    for level, text in _report(total):
        model_admin.message_user(request, text, level)


def _report(total: ReplayResult) -> list[tuple[int, str]]:
    told = []
    if total.replayed:
        letters, events = f"{total.replayed:,} dead letters", f"{total.events:,} events"
        told.append((messages.SUCCESS, f"Replayed {letters}: {events} are stored now."))
    failed = total.refused + total.impossible
    if failed:
        reasons = [f"{one}: {render.short(text, 200)}" for one, text in total.details]
        shown = "; ".join(reasons[:_SHOWN_REASONS])
        more = f"; and {failed - _SHOWN_REASONS:,} more" if failed > _SHOWN_REASONS else ""
        told.append((messages.WARNING, f"{failed:,} still wait. {shown}{more}"))
    if total.split:
        text = f"{total.split:,} events of replayed frames were refused; each is a letter now."
        told.append((messages.WARNING, text))
    if not total.is_complete:
        text = "The time was up before all had their turn. Go on here, or by tailrace_replay."
        told.append((messages.WARNING, text))
    return told or [(messages.INFO, "Nothing was waiting: somebody else has replayed it.")]
