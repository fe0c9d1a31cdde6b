"""The shop's JSON API."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from project.shop.models import Product
from tailrace.pipeline import timed

MAX_ITEMS = 50
MAX_BODY_BYTES = 10_000


def as_json(product: Product) -> dict[str, Any]:
    """Return what the API shows of a product."""
    return {
        "id": product.pk,
        "name": product.name,
        "price": str(product.price),
        "stock": product.stock,
    }


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Say that the process answers."""
    return HttpResponse("ok", content_type="text/plain")


@require_safe
def items(request: HttpRequest) -> JsonResponse:
    """List products."""
    with timed("api.serialize", tags={"kind": "items"}):
        found = [as_json(product) for product in Product.objects.all()[:MAX_ITEMS]]
    return JsonResponse({"items": found})


@require_safe
def item(request: HttpRequest, pk: int) -> JsonResponse:
    """Show one product."""
    product = Product.objects.filter(pk=pk).first()
    if product is None:
        return JsonResponse({"error": f"no item {pk}"}, status=404)
    return JsonResponse(as_json(product))


# A token instead of a cookie: no browser sends it unasked, so CSRF does not apply.
@csrf_exempt
@require_POST
def reserve(request: HttpRequest, pk: int) -> JsonResponse:
    """Take a number of pieces out of stock, in one UPDATE that cannot go below zero."""
    if not request.headers.get("Authorization", "").startswith("Bearer "):
        return JsonResponse({"error": "send Authorization: Bearer <token>"}, status=401)
    quantity = _quantity(request.body[:MAX_BODY_BYTES])
    if quantity is None:
        return JsonResponse({"error": 'send {"quantity": 1}'}, status=400)
    stocked = Product.objects.filter(pk=pk, stock__gte=quantity)
    if not stocked.update(stock=F("stock") - quantity):
        return JsonResponse({"error": "not in stock"}, status=409)
    return JsonResponse({"reserved": quantity})


async def search(request: HttpRequest) -> JsonResponse:
    """Find products by name (an async view)."""
    text = request.GET.get("q", "")
    found = [
        as_json(product) async for product in Product.objects.filter(name__icontains=text)[:10]
    ]
    return JsonResponse({"items": found})


def _quantity(body: bytes) -> int | None:
    try:
        quantity = json.loads(body)["quantity"]
    except (ValueError, KeyError, TypeError):
        return None
    return quantity if type(quantity) is int and 1 <= quantity <= 99 else None
