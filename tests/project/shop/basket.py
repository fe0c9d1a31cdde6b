"""The shopping cart: product ids and quantities in the session."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction
from django.http import HttpRequest

from project.shop.models import Customer, Order, OrderLine, Product

MAX_QUANTITY = 99


@dataclass(frozen=True)
class Item:
    """One line of a cart."""

    product: Product
    quantity: int

    @property
    def amount(self) -> Decimal:
        """What this line costs, in the shop's currency."""
        return self.product.price * self.quantity


def add(request: HttpRequest, product: Product, quantity: int) -> None:
    """Put ``quantity`` of ``product`` into the cart of this session."""
    cart = request.session.setdefault("cart", {})
    key = str(product.pk)
    cart[key] = min(cart.get(key, 0) + quantity, MAX_QUANTITY)
    request.session.modified = True


def items(request: HttpRequest) -> list[Item]:
    """Return what is in the cart of this session."""
    cart = request.session.get("cart", {})
    products = Product.objects.filter(pk__in=cart).select_related("category")
    return [Item(product, cart[str(product.pk)]) for product in products]


def place_order(request: HttpRequest, customer: Customer) -> Order:
    """Turn the cart into an order and empty it.

    Raises:
        ValueError: the cart is empty.
    """
    wanted = items(request)
    if not wanted:
        raise ValueError("The cart is empty.")
    with transaction.atomic():
        order = Order.objects.create(customer=customer)
        OrderLine.objects.bulk_create(
            OrderLine(
                order=order,
                product=item.product,
                quantity=item.quantity,
                unit_price=item.product.price,
            )
            for item in wanted
        )
    del request.session["cart"]
    return order
