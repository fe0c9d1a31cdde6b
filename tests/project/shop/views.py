"""The pages of the shop that work."""

from __future__ import annotations

import heapq

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import Count, F, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from project.shop import basket
from project.shop.models import Category, Customer, Order, OrderLine, Product
from project.shop.tasks import send_receipt
from tailrace.pipeline import record, timed

PAGE_PRODUCTS = 12
RELATED_PRODUCTS = 4


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the shelves and what sells best."""
    context = {
        "categories": Category.objects.annotate(size=Count("products")),
        "bestsellers": Product.objects.annotate(sold=Sum("lines__quantity"))
        .filter(sold__gt=0)
        .order_by("-sold")[:RELATED_PRODUCTS],
    }
    return render(request, "shop/home.html", context)


@require_safe
def products(request: HttpRequest) -> HttpResponse:
    """List products, a page at a time, of one shelf or of all."""
    found = Product.objects.select_related("category")
    slug = request.GET.get("category", "")
    if slug:
        found = found.filter(category=get_object_or_404(Category, slug=slug))
    page = Paginator(found, PAGE_PRODUCTS).get_page(request.GET.get("page"))
    return render(request, "shop/products.html", {"page": page, "category": slug})


@require_safe
def product(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one product, and others of its shelf with a price close to it."""
    chosen = get_object_or_404(Product.objects.select_related("category"), slug=slug)
    with timed("recommendations.rank", tags={"category": chosen.category.slug}):
        shelf = Product.objects.filter(category=chosen.category).exclude(pk=chosen.pk)
        related = heapq.nsmallest(
            RELATED_PRODUCTS, shelf, key=lambda other: abs(other.price - chosen.price)
        )
    return render(request, "shop/product.html", {"product": chosen, "related": related})


@require_safe
def cart(request: HttpRequest) -> HttpResponse:
    """Show what is in the cart."""
    items = basket.items(request)
    context = {
        "items": items,
        "total": sum(item.amount for item in items),
        "customers": Customer.objects.all()[:20],
    }
    return render(request, "shop/cart.html", context)


@require_POST
def add_to_cart(request: HttpRequest) -> HttpResponse:
    """Put a product into the cart."""
    chosen = get_object_or_404(Product, pk=_number(request, "product"))
    quantity = _number(request, "quantity")
    if not 1 <= quantity <= basket.MAX_QUANTITY:
        return HttpResponse("quantity must be 1 to 99", status=400, content_type="text/plain")
    basket.add(request, chosen, quantity)
    return redirect("shop:cart")


@require_POST
def checkout(request: HttpRequest) -> HttpResponse:
    """Turn the cart into an order, and tell Tailrace what it was worth."""
    customer = get_object_or_404(Customer, pk=_number(request, "customer"))
    try:
        placed = basket.place_order(request, customer)
    except ValueError as error:
        return HttpResponse(str(error), status=400, content_type="text/plain")
    record("checkout", tags={"plan": customer.plan}, fields={"amount": float(placed.total)})
    if settings.SHOP_SENDS_RECEIPTS:
        send_receipt.delay(placed.pk)
    return redirect("shop:order", pk=placed.pk)


@require_safe
def order(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an order."""
    found = Order.objects.select_related("customer").prefetch_related("lines__product")
    return render(request, "shop/order.html", {"order": get_object_or_404(found, pk=pk)})


@require_safe
def sales(request: HttpRequest) -> HttpResponse:
    """Show the takings of each shelf, in one query."""
    rows = (
        OrderLine.objects.values(category=F("product__category__name"))
        .annotate(pieces=Sum("quantity"), takings=Sum(F("quantity") * F("unit_price")))
        .order_by("-takings")
    )
    return render(request, "shop/sales.html", {"rows": rows})


def _number(request: HttpRequest, name: str) -> int:
    """Return a posted whole number; -1, which nothing has as its id, if it is none."""
    text = request.POST.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
