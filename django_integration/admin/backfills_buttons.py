"""What the buttons of a backfill's page do: to the state that they were shown for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from django.contrib import messages

from tailrace.django_integration.backfills import service


class Button(NamedTuple):
    """A button of the page."""

    action: str
    label: str
    said: str
    """When it was done."""
    warning: str = ""
    """What somebody should know before; asked for once more where there is one."""


BUTTONS = (
    Button("pause", "Pause", "It is paused: steps that run come to their end."),
    Button("resume", "Resume", "It goes on."),
    Button("retry", "Retry what failed", "What failed is tried again."),
    Button(
        "cancel",
        "Cancel",
        "It is cancelled. What was done before stays done.",
        "A cancelled backfill cannot go on. What is done stays done; nothing is undone.",
    ),
)
_DO: dict[str, Callable[[str, str], object]] = {
    "pause": service.pause,
    "resume": service.resume,
    "retry": service.retry,
    "cancel": service.cancel,
}


def press(uid: str, action: str, seen: str, by: str) -> tuple[int, str]:
    """Do what a button says, if the backfill still is in the state that its page showed.

    Args:
        uid: Which backfill.
        action: The button's.
        seen: The state that the page showed.
        by: Whose hand it was.

    Returns:
        The level and text of the message for that person.
    """
    button = next((one for one in BUTTONS if one.action == action), None)
    before = service.progress(uid)
    if button is None or before is None:
        return messages.ERROR, "There is no such button. Nothing was changed."
    if before.record.state != seen or action not in before.can:
        return messages.WARNING, stale_text(before.phase, seen, button.label)
    if _DO[action](uid, by):
        return messages.SUCCESS, button.said
    after = service.progress(uid)
    state = after.record.state if after else "gone"
    if action == "retry" and state != seen:
        return messages.SUCCESS, button.said  # no step had failed, but planning had
    return messages.WARNING, stale_text(state, seen, button.label)


def stale_text(state: str, seen: str, label: str) -> str:
    """Return why nothing was done."""
    if state == seen:
        return f"“{label}” has nothing to do any more: somebody was faster. Nothing was changed."
    return (
        f"It is {state} by now, not as your page showed it; somebody else, or a worker, was "
        f"faster. “{label}” changed nothing. If you still want it, press again."
    )
