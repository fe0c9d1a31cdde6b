"""What the shop sells, to whom, and what they ordered."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.urls import reverse


class Category(models.Model):
    """A shelf of the shop."""

    name = models.CharField(max_length=60)
    slug = models.SlugField(unique=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    """Something to buy."""

    category = models.ForeignKey(Category, models.PROTECT, related_name="products")
    name = models.CharField(max_length=120)
    slug = models.SlugField(unique=True)
    description = models.TextField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the path of the product's page."""
        return reverse("shop:product", args=[self.slug])


class Customer(models.Model):
    """Somebody who buys, on a plan that sets the discount."""

    class Plan(models.TextChoices):
        """The plans; few, so that a plan can be a tag."""

        FREE = "free"
        PRO = "pro"
        TEAM = "team"

    name = models.CharField(max_length=120)
    email = models.EmailField(unique=True)
    plan = models.CharField(max_length=8, choices=Plan.choices, default=Plan.FREE)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What a customer has bought in one go."""

    class Status(models.TextChoices):
        """How far the order is."""

        PLACED = "placed"
        CONFIRMED = "confirmed"

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="orders")
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-placed_at"]

    def __str__(self) -> str:
        return f"Order {self.pk}"

    @property
    def total(self) -> Decimal:
        """The sum of all lines, in the shop's currency."""
        return sum((line.amount for line in self.lines.all()), Decimal(0))


class OrderLine(models.Model):
    """A number of one product, at the price of that day."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT, related_name="lines")
    quantity = models.PositiveIntegerField()
    unit_price = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product}"

    @property
    def amount(self) -> Decimal:
        """What this line costs, in the shop's currency."""
        return self.quantity * self.unit_price
