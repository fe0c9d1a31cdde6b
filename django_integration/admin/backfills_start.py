"""How a backfill is started in the admin: choose a kind, fill in its form, confirm."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from django import forms
from django.contrib import messages
from django.core import signing
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from tailrace.django_integration.backfills import service
from tailrace.pipeline.backfill.contracts import Estimate, Kind
from tailrace.pipeline.errors import TailraceError

from .backfills_form import KindForm, shown, told
from .backfills_progress import estimate_rows

PERMISSION = "tailrace.run_backfill"
PREVIEW_MAX_SECONDS = 24 * 3600
"""For so long a preview can be confirmed."""
_FIRST, _AT_ONCE = "Live traffic goes first", "Steps at once"
_SALT = "tailrace.backfill.preview"
_EXPECTED = (TailraceError, ImproperlyConfigured, DatabaseError, OSError, ValueError)
"""What kinds raise when something is wrong outside of them."""


class OptionsForm(forms.Form):
    """What is asked for every kind."""

    workers = forms.IntegerField(
        label=_AT_ONCE,
        initial=service.WORKERS,
        min_value=1,
        max_value=service.WORKERS_MAX,
        help_text="On all hosts together.",
    )
    is_throttled = forms.BooleanField(
        label=_FIRST,
        initial=True,
        required=False,
        help_text="Steps wait while the pipeline lags or the storage is slow.",
    )


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was previewed. It goes through the browser, signed, so that nothing else starts."""

    uid: str
    """Of the backfill-to-be: whoever confirms twice starts one."""
    user: str
    kind: str
    given: dict[str, Any]
    workers: int
    is_throttled: bool
    estimate: Estimate


def may_run(request: HttpRequest) -> bool:
    """Return whether this person may start, pause, resume, cancel and retry."""
    return bool(request.user.has_perm(PERMISSION))


def choose_kind(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Show the kinds that there are."""
    if not may_run(request):
        raise PermissionDenied
    shown = [
        (kind.title, kind.description, model_admin.url("backfill", "start", name))
        for name, kind in service.kinds().items()
    ]
    context = {**_context(model_admin, request, "Start a backfill"), "kinds": shown}
    return TemplateResponse(request, "tailrace/admin/backfill_kinds.html", context)


def start_kind(model_admin: Any, request: HttpRequest, name: str) -> HttpResponse:
    """Show a kind's form on GET; on POST its preview, then, confirmed, start it."""
    if not may_run(request):
        raise PermissionDenied
    kind = service.kinds().get(name)
    if kind is None:
        raise Http404(f"no kind of backfill {name[:80]!r}")
    if request.method != "POST":
        given = {key: value for key, value in request.GET.items() if value}
        return _form_page(model_admin, request, kind, KindForm(kind, given=given), OptionsForm())
    if "token" in request.POST:
        return _confirmed(model_admin, request, kind)
    form, options = KindForm(kind, request.POST), OptionsForm(request.POST)
    if not (form.is_valid() & options.is_valid()):
        return _form_page(model_admin, request, kind, form, options)
    try:
        found = service.preview(name, form.raw)
    except _EXPECTED as error:
        return _form_page(model_admin, request, kind, form, options, explained(error))
    asked = Asked(
        uid=uuid.uuid4().hex,
        user=str(request.user.pk),
        kind=name,
        given=form.raw,
        workers=options.cleaned_data["workers"],
        is_throttled=options.cleaned_data["is_throttled"],
        estimate=found.estimate,
    )
    return _preview_page(model_admin, request, kind, form, asked)


def explained(error: BaseException) -> str:
    """Return what is wrong, and that nothing was started."""
    text = str(error).strip() or type(error).__name__
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'} Nothing was started."


def _confirmed(model_admin: Any, request: HttpRequest, kind: Kind) -> HttpResponse:
    asked = _asked(request, kind)
    if asked is None:
        problem = "This preview is too old, or another person's. Preview it again."
        return _form_page(model_admin, request, kind, KindForm(kind), OptionsForm(), problem)
    options = OptionsForm(initial={"workers": asked.workers, "is_throttled": asked.is_throttled})
    form = KindForm(kind, given=asked.given)
    if "change" in request.POST:
        return _form_page(model_admin, request, kind, form, options)
    kept = service.store()
    if kept.get(asked.uid) is None:
        try:
            service.start(
                asked.kind,
                asked.given,
                uid=asked.uid,
                created_by=request.user.get_username(),
                workers=asked.workers,
                is_throttled=asked.is_throttled,
                estimate=asked.estimate,
            )
        except _EXPECTED as error:
            # Two clicks at once: the other one has started it.
            if kept.get(asked.uid) is None:
                problem = explained(error)
                return _form_page(model_admin, request, kind, form, options, problem)
        else:
            messages.success(request, "It is started.")
    return HttpResponseRedirect(model_admin.url_of(kept.row(asked.uid)))


def _asked(request: HttpRequest, kind: Kind) -> Asked | None:
    try:
        content = signing.loads(request.POST["token"], salt=_SALT, max_age=PREVIEW_MAX_SECONDS)
    except signing.BadSignature:
        return None
    asked = msgspec.convert(content, Asked)
    is_theirs = asked.user == str(request.user.pk) and asked.kind == kind.name
    return asked if is_theirs else None


def _context(model_admin: Any, request: HttpRequest, title: str) -> dict[str, Any]:
    return {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "opts": model_admin.opts,
        "media": model_admin.media,
        "list_url": model_admin.url("backfill", "changelist"),
        "kinds_url": model_admin.url("backfill", "add"),
    }


def _form_page(
    model_admin: Any,
    request: HttpRequest,
    kind: Kind,
    form: KindForm,
    options: forms.Form,
    problem: str = "",
) -> HttpResponse:
    context = {
        **_context(model_admin, request, kind.title),
        "description": kind.description,
        "form": form,
        "options": options,
        "problem": problem,
        "form_url": model_admin.url("backfill", "start", kind.name),
        "has_errors": bool(form.errors or options.errors),
    }
    return TemplateResponse(request, "tailrace/admin/backfill_form.html", context)


def _preview_page(
    model_admin: Any, request: HttpRequest, kind: Kind, form: KindForm, asked: Asked
) -> HttpResponse:
    how = [(_AT_ONCE, shown(asked.workers)), (_FIRST, shown(asked.is_throttled))]
    context = {
        **_context(model_admin, request, f"{kind.title}: preview"),
        "description": kind.description,
        "estimate": estimate_rows(asked.estimate),
        "notes": asked.estimate.notes,
        "rows": [*told(form.values, form.parameters), *how],
        "token": signing.dumps(msgspec.to_builtins(asked), salt=_SALT, compress=True),
        "form_url": model_admin.url("backfill", "start", kind.name),
        "form_title": kind.title,
    }
    return TemplateResponse(request, "tailrace/admin/backfill_preview.html", context)
