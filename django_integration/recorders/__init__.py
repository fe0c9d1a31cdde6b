"""Recorders: each observes one source in the host, and turns what it sees into events."""

from __future__ import annotations

from tailrace.django_integration.guard import shield
from tailrace.pipeline.context import SUPPRESSED, current_trace
from tailrace.pipeline.recording import emit

from .base import Recorder, RecorderOptions
from .registry import (
    get_recorder,
    install_recorders,
    installed_recorders,
    recorder_problems,
    uninstall_recorders,
)

__all__ = [
    "SUPPRESSED",
    "Recorder",
    "RecorderOptions",
    "current_trace",
    "emit",
    "get_recorder",
    "install_recorders",
    "installed_recorders",
    "recorder_problems",
    "shield",
    "uninstall_recorders",
]
