"""What is wrong with rollups and policies is said before it does harm, and names the setting."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks

READINGS = "station.StationReading"


def problems(settings: Any, **tailrace: Any) -> dict[str, list[str]]:
    """Return the messages about rollups and retention, by id."""
    settings.TAILRACE = {**settings.TAILRACE, **tailrace}
    found: dict[str, list[str]] = {}
    for message in run_checks(tags=["tailrace"]):
        identifier = str(message.id).removeprefix("tailrace.")
        if identifier in ("E002", "E005", "E006", "E007", "W008", "W009"):
            found.setdefault(identifier, []).append(message.msg)
    return found


@pytest.fixture
def reading_model(settings: Any) -> Any:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "readings.station"]
    from readings.station import models

    from tailrace.backends.written_models import _by_measurement, is_reading, measurement_of

    _by_measurement.cache_clear()
    model = next(
        each
        for each in vars(models).values()
        if isinstance(each, type) and is_reading(each) and not each._meta.abstract
    )
    yield model, measurement_of(model)
    _by_measurement.cache_clear()


def test_nothing_is_wrong_with_nothing(settings: Any) -> None:
    assert problems(settings) == {}


def test_good_entries(settings: Any, reading_model: Any) -> None:
    model, _ = reading_model
    found = problems(
        settings,
        ROLLUPS={"mine": {"SOURCE": "checkout", "FIELDS": ["total"], "GROUP_BY": ["shop"]}},
        RETENTION={
            "request": "7 days",
            "exception": {"DROP_AFTER": "90 days", "HOLD": {"release": ["1", "2"]}},
            model._meta.label: "1 year",
            "tailrace.RawMessage": "30 days",
            "rollup:1h": "2 years",
            "*": "30 days",
        },
    )
    assert found == {}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"SOURCE": "shop.Nothing"}, "['mine']: SOURCE is 'shop.Nothing'"),
        ({"SOURCE": "shop.Product"}, "['mine']: SOURCE: shop.Product is no model of readings"),
    ],
)
def test_rollups_of_models_that_are_none(settings: Any, entry: Any, words: str) -> None:
    (message,) = problems(settings, ROLLUPS={"mine": entry})["E005"]
    assert message.startswith("TAILRACE['ROLLUPS']")
    assert words in message


def test_rollups_of_fields_that_are_none(settings: Any, reading_model: Any) -> None:
    model, name = reading_model
    for source in (model._meta.label, name):
        entry = {"SOURCE": source, "FIELDS": ["nothing", "timestamp"], "GROUP_BY": ["neither"]}
        messages = problems(settings, ROLLUPS={"mine": entry})["E005"]
        assert [each.split(": ")[1] for each in messages] == ["FIELDS", "FIELDS", "GROUP_BY"]
        assert "has no field 'nothing'" in messages[0]
        assert "holds no numbers" in messages[1]


@pytest.mark.parametrize(
    ("target", "policy", "words"),
    [
        ("shop.Nothing", "7 days", "'shop.Nothing' is no model of readings"),
        ("shop.Product", "7 days", "'shop.Product' is no model of readings"),
        (
            "tailrace.RawMessage",
            {"DROP_AFTER": "1 day", "HOLD": {"nothing": "x"}},
            "has no field 'nothing'",
        ),
    ],
)
def test_policies_about_what_there_is_not(
    settings: Any, target: str, policy: Any, words: str
) -> None:
    (message,) = problems(settings, RETENTION={target: policy})["E006"]
    assert message.startswith(f"TAILRACE['RETENTION'][{target!r}]: ")
    assert words in message


def test_two_policies_about_one_table(settings: Any, reading_model: Any) -> None:
    model, name = reading_model
    found = problems(settings, RETENTION={model._meta.label: "7 days", name: "8 days"})
    assert "the same table" in found["E007"][0]


def test_a_policy_about_what_no_backend_stores(settings: Any) -> None:
    backend = {"BACKEND": "tailrace.backends.database.DatabaseBackend", "MEASUREMENTS": ["query"]}
    found = problems(
        settings,
        BACKENDS={"default": backend},
        RETENTION={"request": "7 days", "query": "7 days"},
    )
    (message,) = found["W008"]
    assert "no backend stores 'request'" in message


def test_a_rollup_that_no_backend_keeps(settings: Any) -> None:
    backend = {"BACKEND": "tailrace.backends.memory.MemoryBackend"}
    found = problems(
        settings, BACKENDS={"default": backend}, ROLLUPS={"mine": {"SOURCE": "checkout"}}
    )
    assert len(found["W009"]) == 1, "those built in are nobody's mistake"


@pytest.mark.parametrize(
    ("tailrace", "words"),
    [
        ({"RETENTION": {"request": "soon"}}, "TAILRACE['RETENTION']['request']: DROP_AFTER"),
        ({"RETENTION": {"rollup:7h": "1 year"}}, "['rollup:7h']: no rollup has such buckets"),
        (
            {"ROLLUPS": {"mine": {"SOURCE": "x", "WIDTHS": ["1 hour", "90 minutes"]}}},
            "TAILRACE['ROLLUPS']: rollup 'mine': WIDTHS",
        ),
        (
            {"RETENTION": {"rollup:1h": "1 year", "rollup:1d": "30 days"}},
            "keeps buckets of requests:1 hour longer than those of requests:1 day",
        ),
        (
            {
                "ROLLUPS": {"mine": {"SOURCE": "x", "START_OFFSET": "30 days"}},
                "RETENTION": {"x": "7 days"},
            },
            "TAILRACE['RETENTION']['x'] drops after 1 week what rollup 'mine'",
        ),
    ],
)
def test_entries_that_contradict_each_other(
    settings: Any, tailrace: dict[str, Any], words: str
) -> None:
    messages = problems(settings, **tailrace)["E002"]
    assert any(words in message for message in messages), messages
