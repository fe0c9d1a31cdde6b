"""Stands for Tailrace's app configuration where that is not there."""

from __future__ import annotations

from django.apps import AppConfig


class TailraceStandIn(AppConfig):
    """Gives the commands of the package the label they have in a real install."""

    name = "tailrace.django_integration"
    label = "tailrace"
