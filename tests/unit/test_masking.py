"""Secrets of every shape are found, harmless text is left alone, and hostile text costs little."""

from __future__ import annotations

import base64
import json
import random
import re
import string
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tailrace.pipeline.masking import DEPTH_MAX_LEVELS, MASK, TEXT_MAX_CHARS, Masker
from tailrace.pipeline.secret_shapes import is_card_number

CORPUS_SEED = 20_240_607
CORPUS_SECRETS = 12_000
HOSTILE_BYTES = 2**20
HOSTILE_SECONDS = 2.0

masker = Masker()

SECRET_NAMES = [
    "password", "PASSWORD", "user_password", "userPassword", "UserPassword", "user-password",
    "passwd", "pwd", "mysql_pwd", "DB_PASS", "passphrase", "secret", "client_secret",
    "clientSecret", "SECRET_KEY", "token", "accessToken", "refresh_token", "csrfmiddlewaretoken",
    "X-CSRFToken", "api_key", "apikey", "apiKey", "X-Api-Key", "APIKey", "auth", "Authorization",
    "Proxy-Authorization", "oauth_verifier", "credentials", "private_key", "privateKey",
    "session", "sessionid", "session_key", "Cookie", "Set-Cookie", "signature", "Stripe-Signature",
    "pin", "card_pin", "cvv", "CVV2", "ssn", "otp", "totp", "access_key", "aws_secret_access_key",
    "AccountKey", "activation_key", "credit_card", "card_number", "jwt", "SENTRY_DSN", "bearer",
    "user[password]", "data.password", "password1", "tokens", "X-Amz-Security-Token",
]  # fmt: skip
HARMLESS_NAMES = [
    "author", "authors", "author_id", "authority", "authorized_by", "is_authenticated",
    "tokenizer", "tokenizer_count", "token_count", "max_tokens", "prompt_tokens", "shipping",
    "opinion", "compass", "passenger", "bypass", "passed", "key", "primary_key", "keyboard",
    "monkey", "secretary", "spinner", "pinned", "user", "user_id", "email", "name", "page", "q",
    "assign", "design", "classname", "essential", "session_duration_ms", "auth_type",
    "password_length", "desktop", "hotpot", "", "_", "123", "obsession_count",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets(name: str) -> None:
    assert masker.mask_name(name)


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_harmless_names(name: str) -> None:
    assert not masker.mask_name(name)


def test_words_of_the_owner_count_in_every_spelling() -> None:
    own = Masker(["national-id", "Kennwort", "пароль", ""])
    for name in ("nationalId", "NATIONAL_ID", "user_national_id", "kennwort", "пароль_2"):
        assert own.mask_name(name)
    assert not own.mask_name("nation")
    assert not masker.mask_name("kennwort")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password=hunter2 user=bob", "password=*** user=bob"),
        ("login?token=abc&page=2", "login?token=***&page=2"),
        ('{"password": "a\\"b", "id": 7}', '{"password": "***", "id": 7}'),
        ("{'api_key': 'x y', 'id': 7}", "{'api_key': '***', 'id': 7}"),
        (
            'body "{\\"token\\": \\"abc\\", \\"id\\": 7}"',
            'body "{\\"token\\": \\"***\\", \\"id\\": 7}"',
        ),
        ('"credentials": {"u": ["a", {"b": 1}]}, "id": 7', '"credentials": ***, "id": 7'),
        ("Authorization: Digest a=b, c=d\nHost: x", "Authorization: ***\nHost: x"),
        ("Cookie: a=b; c=d\r\nHost: x", "Cookie: ***\r\nHost: x"),
        ("<password>a b</password>", "<password>***</password>"),
        ("got Bearer abc.def-ghi from x", "got Bearer *** from x"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        ("redis://:p@ss/w#rd@host:6379/0", "redis://***@host:6379/0"),
        ("https://ghp@example.com/x", "https://***@example.com/x"),
        ("see eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln now", "see *** now"),
        ("card 4111 1111 1111 1111 123 declined", "card *** 123 declined"),
        ("card 5500-0000-0000-0004.", "card ***."),
        ("mail bob.o+x@mail.example.com now", "mail *** now"),
        ("key AKIAIOSFODNN7EXAMPLE!", "key ***!"),
        ("ghp_" + "a1B2" * 9, MASK),
        ("/reset/MQ/c9xk2f-" + "0123456789abcdef" * 2 + "/", "/reset/MQ/***/"),
        ("next=%2Freset%3Ftoken%3Dabc", "next=/reset?token=***"),
        ("Key (token)=(abc) already exists.", "Key (token)=*** already exists."),
        ("Key (slug, code)=(a, b) already exists.", "Key (slug, code)=***"),
        ("DETAIL:  Failing row contains (1, bob, x).", "DETAIL:  Failing row contains ***"),
        ("Duplicate entry 'abc-1' for key 'x'", "Duplicate entry ***"),
        ("\"password\"::text = 'x' AND id = 7", "\"password\"::text = '***' AND id = 7"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend",
            "***\nend",
        ),
    ],
)
def test_secrets_in_text(text: str, masked: str) -> None:
    assert masker.mask_text(text) == masked
    assert masker.mask_text(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/shop/items/2024/06/shoes-42/",
        "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
        "http://127.0.0.1:8000/items/?page=2&q=a@",
        "order 4111111111111112 of 1732179600123456789 took 0.4111111111111111 s",
        "invalid literal for int() with base 10: 'abc'",
        "basic authentication required",
        "author=bob max_tokens=5",
        "550e8400-e29b-41d4-a716-446655440000",
        "a % b == c, 100 %, 5%",
        "x > 5 and y <= 3; z::int",
    ],
)
def test_harmless_text_is_left_alone(text: str) -> None:
    assert masker.mask_text(text) == text


def test_source_lines_lose_literals_only() -> None:
    assert masker.mask_source("    token = get_token(request)") == "    token = get_token(request)"
    assert masker.mask_source('login(password=b"hunter2", x=1)') == 'login(password=b"***", x=1)'


@pytest.mark.parametrize(
    ("query", "masked"),
    [
        ("", ""),
        ("page=2&q=red+shoes", "page=2&q=red+shoes"),
        ("token=a%20b&page=2", "token=***&page=2"),
        ("user%5Bpassword%5D=x&a", "user%5Bpassword%5D=***&a"),
        ("next=%2Fx%3Ftoken%3Dabc&a=1", "next=/x?token%3D***&a=1"),
        ("next=%252Fx%253Ftoken%253Dabc", "next=/x?token%3D***"),
        ("q=bob%40example.com", "q=***"),
        ("code=abc&state=def", "code=***&state=***"),
        ("code=DE", "code=DE"),
        ("a=1;token=x", "a=1;token%3D***"),
    ],
)
def test_query_strings(query: str, masked: str) -> None:
    assert masker.mask_query_string(query) == masked


def test_headers() -> None:
    headers = {
        "User-Agent": "curl/8.0",
        "Authorization": "Custom x",
        "COOKIE": "a=b",
        "X-Api-Key": "k",
        "Referer": "https://h/x?token=abc",
    }
    assert masker.mask_headers(headers) == {
        "User-Agent": "curl/8.0",
        "Authorization": MASK,
        "COOKIE": MASK,
        "X-Api-Key": MASK,
        "Referer": "https://h/x?token=***",
    }


def test_values_are_masked_at_every_depth() -> None:
    deep: dict[str, Any] = {"passWord": "s3cr3t-x", "ok": 1}
    for level in range(8):
        deep = {f"level{level}": [deep, ("token", "s3cr3t-y")], "text": '{"pin": "s3cr3t-z"}'}
    masked = masker.mask_value(deep)
    assert "s3cr3t" not in json.dumps(masked)
    assert '"ok": 1' in json.dumps(masked)


def test_values_become_plain_data() -> None:
    class Model:
        def __str__(self) -> str:
            raise AssertionError("str() of a model may run a query")

    value = {
        1: Model(),
        "day": date(2024, 6, 7),
        "price": Decimal("1.50"),
        "card": 4111111111111111,
    }
    assert masker.mask_value(value) == {
        "1": "<test_values_become_plain_data.<locals>.Model>",
        "day": "2024-06-07",
        "price": "1.50",
        "card": MASK,
    }
    assert masker.mask_value(uuid.UUID(int=1)) == str(uuid.UUID(int=1))
    assert masker.mask_value([None, True, 1.5]) == [None, True, 1.5]


def test_values_are_bounded() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert json.dumps(masker.mask_value(endless)).count("[") == DEPTH_MAX_LEVELS + 1
    assert len(masker.mask_value(list(range(5_000)))) == 1_000
    assert len(masker.mask_value({str(n): n for n in range(5_000)})) == 1_000
    assert len(masker.mask_text("x" * 10**6)) <= TEXT_MAX_CHARS


def test_a_secret_on_the_cut_is_dropped() -> None:
    secret = "4111111111111111"
    for spare in range(len(secret) + 2):
        text = "x " * ((TEXT_MAX_CHARS - spare) // 2) + secret + " tail" * 10
        assert "4111" not in masker.mask_text(text)


def test_card_numbers() -> None:
    for number in ("4111111111111111", "378282246310005", "6011000990139424", "2223003122003222"):
        assert is_card_number(number)
        assert not is_card_number(number[:-1] + str((int(number[-1]) + 1) % 10))
    assert not is_card_number("1732179600123456789")
    assert not is_card_number("٤" * 16)


@pytest.mark.parametrize(
    "hostile",
    [
        "a", "1 ", "1", "://", "://a:b", "a:", "password=", 'password="', "{", "[(", "\\", '\\"',
        'a\\"', "eyJ", "-----BEGIN RSA PRIVATE KEY-----", "a@", "a.", "%25", "%3D", "Bearer ",
        "Basic a", "a=b&", "a-", "x::y", "Key (", " ", "\t=", "AKIA", "SG.a", "0-", "token:{",
        "<a>", "Duplicate entry '", "%",
    ],
)  # fmt: skip
def test_hostile_text_costs_linear_time(hostile: str) -> None:
    text = (hostile * (HOSTILE_BYTES // len(hostile) + 1))[:HOSTILE_BYTES]
    fresh = Masker()
    started = time.perf_counter()
    fresh.mask_text(text)
    fresh.mask_query_string(text)
    fresh.mask_name(text)
    fresh.mask_value({text: [text]})
    elapsed_seconds = time.perf_counter() - started
    assert elapsed_seconds < HOSTILE_SECONDS


# --- the corpus -------------------------------------------------------------------------------


def _card(rng: random.Random) -> str:
    digits = rng.choice(["4", "51", "37", "6011"])
    digits += "".join(rng.choice(string.digits) for _ in range(15 - len(digits)))
    return next(digits + last for last in string.digits if is_card_number(digits + last))


def _opaque(rng: random.Random) -> str:
    """A secret that only its name gives away."""
    letters = string.ascii_letters + string.digits + "!$%*+-./:@_~^#?"
    return "z" + "".join(rng.choice(letters) for _ in range(rng.randint(7, 40)))


def _name(rng: random.Random) -> str:
    words = [
        *rng.choice([[], ["user"], ["x"], ["db", "main"]]),
        *rng.choice(
            [["password"], ["secret"], ["access", "token"], ["api", "key"], ["auth"], ["session"],
             ["private", "key"], ["credential"], ["cookie"], ["csrf"], ["signature"], ["pin"]]
        ),
    ]  # fmt: skip
    styles: list[Callable[[list[str]], str]] = [
        "_".join,
        "-".join,
        lambda w: "_".join(w).upper(),
        lambda w: w[0] + "".join(part.title() for part in w[1:]),
        lambda w: "".join(part.title() for part in w),
        lambda w: "-".join(part.title() for part in w),
    ]
    return rng.choice(styles)(words)


def _nested(rng: random.Random, name: str, secret: str) -> Any:
    value: Any = {name: secret}
    for _ in range(rng.randint(0, 8)):
        wrap = rng.randint(0, 3)
        if wrap == 0:
            value = [1, value, "x"]
        elif wrap == 1:
            value = {"data": value, "page": 2}
        elif wrap == 2:
            value = {"items": [value]}
        else:
            value = {"body": json.dumps(value)}
    return value


def _alphanumeric(rng: random.Random, size: int) -> str:
    return "".join(rng.choice(string.ascii_letters + string.digits) for _ in range(size))


def _jwt(rng: random.Random) -> str:
    parts = [json.dumps({"alg": "HS256"}), json.dumps({"sub": _alphanumeric(rng, 9)})]
    encoded = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, _alphanumeric(rng, 43)])


def _by_name(rng: random.Random) -> tuple[str, str]:
    name, secret = _name(rng), _opaque(rng)
    shapes: list[Callable[[], Any]] = [
        lambda: masker.mask_value(_nested(rng, name, secret)),
        lambda: masker.mask_query_string(urlencode({"a": 1, name: secret, "b": "x y"})),
        lambda: masker.mask_query_string(urlencode({"next": "/x?" + urlencode({name: secret})})),
        lambda: masker.mask_headers({name: secret, "Accept": "*/*"}),
        lambda: masker.mask_text(f"failed: {json.dumps({'id': 1, name: secret})} was refused"),
        lambda: masker.mask_text(f"failed: { ({'id': 1, name: secret})!r} was refused"),
        lambda: masker.mask_text(json.dumps({"body": json.dumps({name: secret, "b": 1})})),
        lambda: masker.mask_text(f"GET https://h/x?{urlencode({name: secret, 'b': 1})} -> 500"),
        lambda: masker.mask_text(f"could not log in with {name}={secret} host=db"),
        lambda: masker.mask_text(f"{name}: {secret}\nnext line"),
        lambda: masker.mask_text(f"<{name}>{secret}</{name}>"),
    ]
    return str(rng.choice(shapes)()), secret


def _by_shape(rng: random.Random) -> tuple[str, str]:
    token = _alphanumeric(rng, 36)
    card = _card(rng)
    email = f"{_alphanumeric(rng, 8)}.{_alphanumeric(rng, 4)}@{_alphanumeric(rng, 6)}.example.org"
    secret, shown = rng.choice(
        [
            (card, card),
            (card, "-".join(card[i : i + 4] for i in range(0, len(card), 4))),
            (card, " ".join(card[i : i + 4] for i in range(0, len(card), 4))),
            (email, email),
            (token, f"ghp_{token}"),
            (token, f"sk_live_{token}"),
            (token[:16].upper(), f"AKIA{token[:16].upper()}"),
            (token, f"Bearer {token}"),
            (token, f"postgres://app:{quote(token)}@db:5432/x"),
            (token, f"redis://:{token}@cache/0"),
        ]
        + [(jwt, jwt) for jwt in [_jwt(rng)]]
    )
    places: list[Callable[[], Any]] = [
        lambda: masker.mask_text(f"refused {shown} today"),
        lambda: masker.mask_value({"note": [f"it was ({shown})", {"deep": shown}]}),
        lambda: masker.mask_query_string(urlencode({"q": shown})),
        lambda: masker.mask_headers({"X-Note": shown}),
        lambda: masker.mask_text(json.dumps({"note": json.dumps({"n": shown})})),
    ]
    return str(rng.choice(places)()), secret


def _corpus() -> Iterator[tuple[str, str]]:
    rng = random.Random(CORPUS_SEED)
    for number in range(CORPUS_SECRETS):
        yield (_by_name if number % 2 else _by_shape)(rng)


def test_no_secret_of_the_corpus_survives() -> None:
    survivors = [
        (secret, masked)
        for masked, secret in _corpus()
        if secret in masked or secret in re.sub(r"[ -]", "", masked)
    ]
    assert survivors == [], f"seed {CORPUS_SEED}: {len(survivors)} secrets survive"
