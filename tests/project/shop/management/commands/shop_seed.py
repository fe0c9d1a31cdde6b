"""Fill the shop with goods, customers and orders, and create the demo's staff login."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.utils.text import slugify

from project.shop.models import Category, Customer, Order, OrderLine, Product

CATEGORIES = {
    "Flour": ["Rye", "Spelt", "Wheat", "Buckwheat", "Oat", "Barley"],
    "Grain": ["Emmer", "Einkorn", "Millet", "Maize", "Durum"],
    "Tools": ["Sieve", "Scale", "Scoop", "Brush", "Stone dresser"],
    "Machines": ["Hand mill", "Flaker", "Mixer", "Roller"],
    "Spare parts": ["Belt", "Bearing", "Paddle", "Sluice gate", "Gear"],
}
KINDS = ["fine", "coarse", "organic", "large", "small"]
NAMES = ["Ada", "Barbara", "Edsger", "Frances", "Grace", "Jean", "Katherine", "Margaret"]


class Command(BaseCommand):
    """``manage.py shop_seed``: the same seed gives the same shop; a filled shop is left alone."""

    help = "Fill the shop with goods, customers and orders, and create a staff login."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare how much to make."""
        parser.add_argument("--seed", type=int, default=7)
        parser.add_argument("--customers", type=int, default=40)
        parser.add_argument("--orders", type=int, default=120)
        parser.add_argument("--username", default="demo")
        parser.add_argument("--password", default="", help="create a staff login with it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Fill the shop."""
        with transaction.atomic():
            if options["password"]:
                _make_login(options["username"], options["password"])
            if not Product.objects.exists():
                _fill(random.Random(options["seed"]), options["customers"], options["orders"])
        if options["verbosity"]:
            self.stdout.write(
                f"shop: {Product.objects.count()} products, {Customer.objects.count()} customers, "
                f"{Order.objects.count()} orders"
            )


def _make_login(username: str, password: str) -> None:
    user, _ = get_user_model().objects.get_or_create(
        username=username, defaults={"is_staff": True, "is_superuser": True}
    )
    user.set_password(password)
    user.save()


def _fill(chance: random.Random, customers: int, orders: int) -> None:
    for shelf, names in CATEGORIES.items():
        category = Category.objects.create(name=shelf, slug=slugify(shelf))
        Product.objects.bulk_create(
            Product(
                category=category,
                name=f"{name}, {kind}",
                slug=slugify(f"{name} {kind}"),
                description=f"{name} of the {kind} kind, as millers have used it for ages.",
                price=Decimal(chance.randrange(150, 20_000)) / 100,
                stock=chance.randrange(200, 5_000),
            )
            for name in names
            for kind in KINDS
        )
    Customer.objects.bulk_create(
        Customer(
            name=f"{chance.choice(NAMES)} {number}",
            email=f"customer{number}@example.com",
            plan=chance.choice(Customer.Plan.values),
        )
        for number in range(1, customers + 1)
    )
    _fill_orders(chance, orders)


def _fill_orders(chance: random.Random, count: int) -> None:
    products, customers = list(Product.objects.all()), list(Customer.objects.all())
    orders = Order.objects.bulk_create(
        Order(customer=chance.choice(customers), status=Order.Status.CONFIRMED)
        for _ in range(count)
    )
    OrderLine.objects.bulk_create(
        OrderLine(
            order=order,
            product=product,
            quantity=chance.randrange(1, 6),
            unit_price=product.price,
        )
        for order in orders
        for product in chance.sample(products, chance.randrange(1, 5))
    )
