"""Masking: secrets are replaced before an event leaves the process.

Two questions are asked. Does the *name* mark a secret (``password``, ``accessToken``,
``X-Api-Key``)? Then the whole value goes, whatever it looks like. Does the *text* hold
something with the shape of a secret (a JWT, a card number, ``user:password@host``)? Then that
part goes. ``secret_shapes`` knows the shapes.

Every pattern is linear in its input (possessive quantifiers, starts only where a run starts),
and every input is cut to a bound first: the text may come from an attacker.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote_plus

from . import secret_shapes

MASK = "***"
"""What stands where a secret was."""

TEXT_MAX_CHARS = 65_536
"""Longer text is cut before it is looked at."""
DEPTH_MAX_LEVELS = 24
"""Values nested deeper are masked as a whole."""
ITEMS_MAX = 1_000
"""Items of one list or mapping that are kept."""

_NAME_CACHED_MAX_CHARS = 100
_TEXT_CACHED_MAX_CHARS = 256
# A token may straddle the cut; its half would no longer look like a secret.
_CUT_MARGIN_CHARS = 512
_DECODING_LEVELS = 3

# Camel case ("accessToken", "APIKey") and every separator end a word.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Most URL paths. Every shape needs another character, or a longer run, than these.
_HARMLESS = re.compile(r"(?:[A-Za-z0-9]{0,12}+/)*+[A-Za-z0-9]{0,12}+")
_NAME = re.compile(r"[\w.\[\]-]{1,100}")
_SEPARATORS = re.compile(r"[\W_]++")

# Sought anywhere in the name, separators removed: "X-Api-Key" is "xapikey".
_KEY_KINDS = (
    "api|app|private|secret|access|signing|signature|encryption|encrypt|auth|ssh|session|"
    "activation|confirmation|reset|master|license|service|account|storage|shared|consumer|"
    "client|deploy|pass|hmac|aes|rsa|webhook|recovery|symmetric"
)
_ANYWHERE = re.compile(
    r"passw|passphrase|passcode|pwd|credential|cookie|csrf|xsrf|session|signature|bearer"
    r"|jwt|creditcard|cardnumber|ccnumber|securitycode|socialsecurity|connectionstring|mnemonic"
    r"|secret(?!ar)"  # not secretary
    r"|token(?!i[sz])"  # not tokenizer
    # Not author, authority, authenticated; but authorization.
    r"|auth(?!or(?!i[sz]ation)|enticated)"
    rf"|(?:{_KEY_KINDS})key"
)
# Too short to be sought inside other words: pin in shipping, pass in compass.
_WHOLE_WORDS = {
    "pass", "pw", "pin", "pincode", "cvv", "cvv2", "cvc", "cvc2", "csc", "ssn", "otp", "totp",
    "hotp", "cred", "creds", "dsn", "sid", "sig", "salt", "iban", "dbpass", "userpass",
    "mypass",
}  # fmt: skip
# What a name counts or describes is no secret: token_count, session_duration_ms, auth_type.
_HARMLESS_LAST_WORDS = {
    "count", "counts", "total", "length", "len", "size", "type", "ms", "seconds", "duration",
    "age", "expires", "expired", "expiry", "timeout", "enabled", "disabled", "required",
    "limit", "max", "min", "ttl", "algorithm", "usage",
}  # fmt: skip
# Language models count tokens: max_tokens, prompt_tokens.
_COUNTING_FIRST_WORDS = {
    "max", "min", "num", "n", "total", "prompt", "completion", "input", "output", "cached",
    "used",
}  # fmt: skip


class Masker:
    """Decides what is secret, and replaces it by ``***``."""

    def __init__(self, extra_words: Iterable[str] = ()) -> None:
        """Build a masker.

        Args:
            extra_words: More words that mark a name as secret wherever they occur in it;
                case and separators do not matter.
        """
        words = [re.escape(joined) for word in extra_words if (joined := _joined(word))]
        self._extra = re.compile("|".join(words)) if words else None
        self._is_secret_cached = functools.lru_cache(maxsize=4096)(self._is_secret)
        self._mask_short_text = functools.lru_cache(maxsize=2048)(self._mask_text)

    def mask_name(self, name: str) -> bool:
        """Return whether what is called ``name`` is secret.

        Args:
            name: A header, parameter, column, key: in any case and with any separators.
        """
        if len(name) > _NAME_CACHED_MAX_CHARS:
            return self._is_secret(name[:TEXT_MAX_CHARS])
        return self._is_secret_cached(name)

    def mask_text(self, text: str) -> str:
        """Return ``text`` without what is named, or shaped, like a secret.

        Args:
            text: A message, URL, source line, JSON: anything; cut at ``TEXT_MAX_CHARS``.
        """
        if len(text) <= _TEXT_CACHED_MAX_CHARS:
            return self._mask_short_text(text)
        return self._mask_text(_cut(text))

    def mask_source(self, line: str) -> str:
        """Return a line of source code, literals that are given to secret names masked.

        Args:
            line: ``password = "hunter2"`` loses its literal, ``token = get_token()`` nothing.
        """
        return secret_shapes.replace(_cut(line), self.mask_name, MASK, only_literals=True)

    def mask_query_string(self, query: str) -> str:
        """Return a URL's query string, values of secret parameters masked.

        Args:
            query: The part after ``?``, still percent-encoded.
        """
        if not query:
            return query
        pairs = _cut(query).split("&")
        names = {pair.partition("=")[0] for pair in pairs}
        # What an OAuth provider sends back: the code is as good as a password for a minute.
        is_oauth = {"code", "state"} <= names
        return "&".join([self._mask_pair(pair, is_oauth) for pair in pairs])

    def mask_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return HTTP headers, the secret ones (``Authorization``, ``Cookie``...) masked."""
        return {
            name: MASK if self.mask_name(name) else self.mask_text(value)
            for name, value in headers.items()
        }

    def mask_value(self, value: Any, _depth: int = 0) -> Any:
        """Return a value as plain data, secrets masked at every depth.

        Args:
            value: Scalars, mappings, sequences, JSON in strings; of any other object only its
                type is told, since its ``str()`` might run a query.
        """
        if _depth > DEPTH_MAX_LEVELS:
            return MASK
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return MASK if secret_shapes.is_card_number(str(value)) else value
        if isinstance(value, str):
            return self._mask_json_or_text(value, _depth)
        if isinstance(value, Mapping):
            return self._mask_mapping(value, _depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._mask_sequence(value, _depth)
        if isinstance(value, decimal.Decimal | uuid.UUID | dt.date | dt.time | dt.timedelta):
            return self.mask_text(str(value))
        return f"<{type(value).__qualname__}>"

    def _is_secret(self, name: str) -> bool:
        joined = _joined(name)
        if self._extra is not None and self._extra.search(joined):
            return True
        words = [word.lower() for word in _WORD.findall(name)]
        if not words or words[-1] in _HARMLESS_LAST_WORDS:
            return False
        if words[-1] == "tokens" and words[0] in _COUNTING_FIRST_WORDS:
            return False
        return _ANYWHERE.search(joined) is not None or not _WHOLE_WORDS.isdisjoint(words)

    def _mask_text(self, text: str) -> str:
        if _HARMLESS.fullmatch(text) is not None and "eyJ" not in text:
            return text
        masked = secret_shapes.replace(text, self.mask_name, MASK)
        decoded = masked
        for _ in range(_DECODING_LEVELS):
            encoded, decoded = decoded, unquote_plus(decoded) if "%" in decoded else decoded
            if decoded == encoded:
                break
            found = secret_shapes.replace(decoded, self.mask_name, MASK)
            if found != decoded:
                masked = decoded = found
        return masked

    def _mask_pair(self, pair: str, is_oauth: bool) -> str:
        name, equals, value = pair.partition("=")
        if not equals:
            return self.mask_text(pair)
        plain_name = unquote_plus(name)
        if self.mask_name(plain_name) or (is_oauth and name in ("code", "state")):
            return f"{name}={MASK}"
        plain = unquote_plus(value)
        masked = self.mask_text(plain)
        if masked == plain:
            return pair
        return f"{name}={quote(masked, safe='*/:?@,;')}"

    def _mask_json_or_text(self, text: str, depth: int) -> str:
        if text[:1] in ("{", "[") and len(text) <= TEXT_MAX_CHARS:
            try:
                parsed = json.loads(text)
            except (ValueError, RecursionError):
                return self.mask_text(text)
            return json.dumps(self.mask_value(parsed, depth + 1), ensure_ascii=False)
        return self.mask_text(text)

    def _mask_mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        masked: dict[str, Any] = {}
        for key, item in value.items():
            if len(masked) >= ITEMS_MAX:
                break
            name = key if isinstance(key, str) else str(self.mask_value(key, depth + 1))
            secret = self.mask_name(name)
            masked[self.mask_text(name)] = MASK if secret else self.mask_value(item, depth + 1)
        return masked

    def _mask_sequence(self, value: Iterable[Any], depth: int) -> list[Any]:
        items = list(value)[:ITEMS_MAX]
        # A pair, as in a list of headers: [("Authorization", "Bearer ...")].
        name = items[0] if len(items) == 2 else None
        if isinstance(name, str) and _NAME.fullmatch(name) and self.mask_name(name):
            return [self.mask_text(name), MASK]
        return [self.mask_value(item, depth + 1) for item in items]


def _joined(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()


def _cut(text: str) -> str:
    if len(text) <= TEXT_MAX_CHARS:
        return text
    kept = text[:TEXT_MAX_CHARS]
    space = max(kept.rfind(" ", -_CUT_MARGIN_CHARS), kept.rfind("\n", -_CUT_MARGIN_CHARS))
    return kept[:space] if space > 0 else kept[:-_CUT_MARGIN_CHARS]
