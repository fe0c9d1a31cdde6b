"""App configuration of the shop."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The shop: plain models and views, and three lines that call Tailrace."""

    name = "project.shop"
    label = "shop"
