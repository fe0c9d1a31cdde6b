"""The shop in the admin."""

from __future__ import annotations

from django.contrib import admin

from project.shop.models import Category, Customer, Order, Product

admin.site.register([Category, Customer, Order])


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Products with their shelf and price."""

    list_display = ["name", "category", "price", "stock"]
    list_select_related = ["category"]
