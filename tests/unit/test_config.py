from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tailrace.pipeline.config import BackendConfig, Config, Problem, parse


def problems_of(**settings: Any) -> list[Problem]:
    return parse(settings)[1]


def test_nothing_set_is_all_defaults() -> None:
    assert parse({}) == (Config(), [])
    assert Config().backends == {"default": BackendConfig()}


def test_settings_are_attributes_in_capitals() -> None:
    config, problems = parse(
        {
            "REDIS_URL": "unix:///tmp/redis.sock",
            "SHARDS": 7,
            "FLUSH_INTERVAL_SECONDS": 1,
            "OVERFLOW": "block",
            "SAMPLING": {"query": 0.5, "job*": 0},
            "BACKENDS": {"cold": {"BACKEND": "a.B", "OPTIONS": {"ALIAS": "x"}, "EXCLUDE": ["q*"]}},
        }
    )
    assert problems == []
    assert (config.redis_url, config.shards, config.overflow) == (
        "unix:///tmp/redis.sock",
        7,
        "block",
    )
    assert config.flush_interval_seconds == 1.0
    assert [config.sampling_rate(m) for m in ("query", "job.x", "other")] == [0.5, 0.0, 1.0]
    assert config.backends["cold"].exclude == ("q*",)


def test_every_setting_can_be_given_with_its_default() -> None:
    for field in msgspec.structs.fields(Config):
        value = getattr(Config(), field.name)
        raw = msgspec.to_builtins(value)
        config, problems = parse({field.encode_name: raw})
        assert (config, problems) == (Config(), []), field.name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("REDIS_ULR", "Did you mean 'REDIS_URL'?"),
        ("redis_url", "Did you mean 'REDIS_URL'?"),
        ("STORAGE_BACKEND", "Did you mean 'BACKENDS'?"),
        ("FOO", "Known settings: ENABLED, REDIS_URL"),
        (7, "Known settings"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_closest(name: Any, hint: str) -> None:
    config, (problem,) = parse({name: 1, "SHARDS": 2})
    assert (problem.kind, problem.setting) == ("unknown", str(name))
    assert f"TAILRACE[{name!r}] is not a setting" in problem.message
    assert hint in problem.hint
    assert config.shards == 2, "the others still count"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SHARDS", 0, ">= 1"),
        ("SHARDS", "four", "Expected `int`, got `str`"),
        ("SHARDS", 1025, "<= 1024"),
        ("SHARDS", True, "Expected `int`"),
        ("REDIS_TIMEOUT_SECONDS", 0, "> 0"),
        ("REDIS_TIMEOUT_SECONDS", float("nan"), ""),
        ("OVERFLOW", "drop_all", "drop_all"),
        ("SAMPLING", {"m": 1.5}, "<= 1"),
        ("BUFFER_MAX_BYTES", 10, ">= 65536"),
        ("KEY_PREFIX", "a b", "regex"),
        ("ENABLED", "yes", "Expected `bool`"),
        ("TAGS", {"env": 1}, "Expected `str`"),
        ("BACKENDS", {"default": "a.B"}, "Expected `object`, got `str`"),
        ("REDIS_URL", 7, "Expected `str`"),
    ],
)
def test_a_wrong_value_is_named_and_its_default_counts(name: str, value: Any, says: str) -> None:
    config, problems = parse({name: value})
    assert [problem.kind for problem in problems] == ["invalid"]
    assert name in problems[0].message
    assert says in problems[0].message
    assert problems[0].hint
    assert config == Config()


def test_a_misspelt_key_of_a_backend_is_answered_with_the_closest() -> None:
    (problem,) = problems_of(BACKENDS={"default": {"BACKED": "a.B"}})
    assert problem.hint == "Did you mean 'BACKEND'?"


def test_secrets_are_not_shown() -> None:
    shown = repr(problems_of(REDIS_URL=["redis://:s3cret@host"]))
    shown += repr(problems_of(BACKENDS={"default": {"OPTIONS": {"TOKEN": "s3cret"}, "X": 1}}))
    shown += repr(problems_of(REDIS_URL="http://:s3cret@host"))
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"REDIS_URL": "localhost:6379"}, "Write redis://host:6379/0"),
        ({"REDIS_URL": ""}, "Write redis://host:6379/0"),
        ({"BACKENDS": {}}, "Leave it out for the default database"),
    ],
)
def test_contradictions_have_a_way_out(settings: dict[str, Any], hint: str) -> None:
    assert any(hint in problem.hint for problem in problems_of(**settings))


def test_a_backend_takes_what_its_patterns_say() -> None:
    backend = BackendConfig(measurements=("job*", "request"), exclude=("job.secret",))
    found = {m: backend.accepts(m) for m in ("job", "job.mail", "job.secret", "request", "query")}
    assert found == {
        "job": True,
        "job.mail": True,
        "job.secret": False,
        "request": True,
        "query": False,
    }


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Config().shards = 3  # type: ignore[misc]
