"""The pages of the shop that show what one installs telemetry for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from project.shop.models import Order, Product

SLOW_SECONDS = (0.2, 0.6)
N_PLUS_ONE_ORDERS = 25


class PaymentRefusedError(Exception):
    """The payment provider said no."""


@require_safe
def slow(request: HttpRequest) -> HttpResponse:
    """Take a while, as a page does that asks somebody else's server."""
    time.sleep(random.uniform(*SLOW_SECONDS))
    return render(request, "shop/slow.html", {"products": Product.objects.count()})


@require_safe
def n_plus_one(request: HttpRequest) -> HttpResponse:
    """List orders with their customers and totals, with a query or more for each."""
    return render(request, "shop/orders.html", {"orders": Order.objects.all()[:N_PLUS_ONE_ORDERS]})


@require_safe
def forbidden(request: HttpRequest) -> HttpResponse:
    """Refuse everybody (403)."""
    raise PermissionDenied("Margins are for the owner's eyes.")


@require_safe
def broken(request: HttpRequest, kind: str) -> HttpResponse:
    """Fail in one of a few ways (500), or with 404 if there is no such way."""
    if kind not in FAILURES:
        raise Http404(f"No such failure. There are: {', '.join(FAILURES)}")
    FAILURES[kind](request)
    raise AssertionError(f"{kind} did not fail")


def _divide(request: HttpRequest) -> None:
    baskets: list[int] = []
    sum(baskets) / len(baskets)


def _look_up(request: HttpRequest) -> None:
    {"EUR": 1.0}["GBP"]


def _pay(request: HttpRequest) -> None:
    raise PaymentRefusedError("card declined") from TimeoutError("no answer in 3 s")


def _query(request: HttpRequest) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT price FROM shop_pricelist_that_was_dropped")


FAILURES: dict[str, Callable[[HttpRequest], None]] = {
    "division": _divide,
    "currency": _look_up,
    "payment": _pay,
    "sql": _query,
}
