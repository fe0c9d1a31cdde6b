"""The shapes that secrets have in running text.

Used by ``masking``, which says which names are secret. Python 3.11's possessive quantifiers
(``++``) keep each pattern linear: nothing that was matched is given back and tried again, and a
look-behind lets a match start only where a run of its characters starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# A name, what may close it (quote, bracket, escaped quote), and = : => or the > of an XML tag.
_NAMED = re.compile(
    r"(?<![\w-])([\w-]++)(?:[\])]|\\*+[\"'])*+"
    r"(?:::\w++)?+"  # a cast in PostgreSQL's error texts
    r"(?:\s*+(=>|:=|==|=|:(?!//))\s*+|(>)(?=[^<\s]))"
)
_QUOTE = re.compile(r"[bBrRuUfF]{0,2}(\\*+[\"'`])")
# & ends a value only where the next parameter begins: a password may contain one.
_BARE_VALUE = re.compile(r"(?:[^\s\"'<&]|&(?![\w.%\[\]-]{1,64}=))++")
_ELEMENT = re.compile(r"[^<]++")
_LINE = re.compile(r"[^\r\n]*+")
_AUTH_SCHEME = re.compile(
    r"(?:bearer|basic|digest|token|negotiate|apikey|aws4-hmac-sha256|hawk|ntlm)\b", re.IGNORECASE
)
_HEADER_LINE = re.compile(r"auth|cookie", re.IGNORECASE)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_BRACKET = re.compile(r"[()\[\]{}]")

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:.*?-----END [A-Z ]{0,40}KEY-----|.*)", re.DOTALL
)
# The first form lets a password hold / ? # and @, and leaves host:port/path alone.
_URL_USERINFO = re.compile(
    r"://(?:[^\s/?#@:'\"<>]{0,128}+:(?!\d{1,5}(?:[/?#\s]|$))[^\s'\"<>]{0,256}@"
    r"|[^\s/?#@'\"<>]{0,256}+@)"
)
# What databases quote of a row that they refuse.
_REFUSED_ROW = re.compile(
    r"(Failing row contains |Key \([^()\n]{0,300}+\)=)\([^\n]*+|(Duplicate entry )'[^\n]*+"
)
_BEARER = re.compile(r"\b(Bearer)[\s+]{1,8}+[\w.~+/=:-]++", re.IGNORECASE)
_SCHEME = re.compile(
    r"\b(Basic|Token|Negotiate|ApiKey)[\s+]{1,8}+([\w.~+/=:-]{8,}+)", re.IGNORECASE
)
_KNOWN_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"eyJ[\w-]{6,}+(?:\.[\w-]*+){0,4}+"  # JSON web tokens and their kin
    r"|(?:AKIA|ASIA|AIDA|AROA|ABIA|ACCA)[A-Z0-9]{12,}+"  # AWS
    r"|gh[pousr]_\w{16,}+|github_pat_\w{16,}+|glpat-[\w-]{16,}+"
    r"|xox[abeoprs]-[\w-]{10,}+"  # Slack
    r"|(?:sk|rk|pk)_(?:live|test)_\w{8,}+|whsec_\w{8,}+"  # Stripe
    r"|sk-[\w-]{16,}+|hf_\w{16,}+|AIza[\w-]{20,}+|ya29\.[\w.-]{16,}+"
    r"|npm_\w{16,}+|pypi-[\w-]{16,}+|dop_v1_\w{16,}+|SG\.[\w-]{8,}+\.[\w-]{8,}+"
    r"|[0-9a-z]{6,7}-[0-9a-f]{32,64}+"  # Django's password reset links
    r")"
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]++(?:\.[\w-]++)++")
# Not the digits behind a decimal point.
_DIGIT_RUN = re.compile(r"(?<![0-9])(?<![0-9]\.)[0-9](?:[ +-]?+[0-9]){12,}+")
_CARD_DIGITS_MIN, _CARD_DIGITS_MAX = 13, 19
# A longer run with separators is masked as a whole: looking at each part would be quadratic.
_RUN_MAX_DIGITS = 64
# First digits that card networks use; time stamps (17...) have others.
_ISSUER = re.compile(r"2[2-7]|3[04-9]|[456]")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def replace(
    text: str,
    is_secret_name: Callable[[str], bool],
    mask: str,
    *,
    only_literals: bool = False,
) -> str:
    """Return ``text`` with everything that has the shape of a secret replaced.

    Args:
        text: Any text; the caller bounds its length.
        is_secret_name: Whether the value of ``name=value`` is secret.
        mask: What to put there.
        only_literals: Replace what a secret name is given only where it is quoted; for
            source code.
    """
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub(mask, text)
    text = _replace_named(text, is_secret_name, mask, only_literals)
    if "://" in text:
        text = _URL_USERINFO.sub(f"://{mask}@", text)
    text = _BEARER.sub(rf"\1 {mask}", text)
    text = _SCHEME.sub(lambda found: _mask_scheme(found, mask), text)
    text = _KNOWN_KEYS.sub(mask, text)
    text = _REFUSED_ROW.sub(rf"\1\2{mask}", text)
    if "@" in text:
        text = _EMAIL.sub(mask, text)
    return _DIGIT_RUN.sub(lambda found: _mask_cards(found.group(), mask), text)


def is_card_number(digits: str) -> bool:
    """Return whether a string of digits is a payment card number (issuer, length, Luhn)."""
    if not _CARD_DIGITS_MIN <= len(digits) <= _CARD_DIGITS_MAX or not digits.isdecimal():
        return False
    if _ISSUER.match(digits) is None:
        return False
    odd = sum(int(digit) for digit in digits[-1::-2])
    even = sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return (odd + even) % 10 == 0


def _replace_named(
    text: str, is_secret_name: Callable[[str], bool], mask: str, only_literals: bool
) -> str:
    parts: list[str] = []
    done = 0
    position = 0
    while (found := _NAMED.search(text, position)) is not None:
        position = found.end()
        if not is_secret_name(found.group(1)):
            continue
        quote = _QUOTE.match(text, position)
        if quote is not None:
            # The quotes stay, so that JSON remains JSON.
            position = quote.end()
            end = _end_of_quoted(text, quote)
        elif only_literals or text.startswith(mask, position):
            continue
        else:
            end = _end_of_unquoted(text, found)
        if end > position:
            parts += (text[done:position], mask)
            done = position = end
    return "".join((*parts, text[done:])) if parts else text


def _end_of_unquoted(text: str, named: re.Match[str]) -> int:
    """Return where the value ends that follows ``name=`` without quotes."""
    start = named.end()
    if text[start : start + 1] in _CLOSING:
        return _end_of_bracket(text, start)
    # "Authorization: Bearer x", "Cookie: a=b; c=d": the whole line is the value.
    is_header = named.group(2) == ":" and _HEADER_LINE.search(named.group(1))
    pattern = _LINE if is_header or _AUTH_SCHEME.match(text, start) else _BARE_VALUE
    if named.group(3):
        pattern = _ELEMENT
    bare = pattern.match(text, start)
    return bare.end() if bare is not None else start


def _end_of_quoted(text: str, quote: re.Match[str]) -> int:
    """Return where a string ends, whose quotes may be escaped n times (JSON in JSON)."""
    closing = quote.group(1)
    position = quote.end()
    while (position := text.find(closing, position)) >= 0:
        # More backslashes than the opening quote has: a quote inside the value.
        if text[position - 1] != "\\":
            return position
        position += len(closing)
    return len(text)


def _end_of_bracket(text: str, start: int) -> int:
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        depth += 1 if bracket.group() in _CLOSING else -1
        if depth == 0:
            return bracket.end()
    return len(text)


def _mask_scheme(found: re.Match[str], mask: str) -> str:
    value = found.group(2)
    # "Basic authentication", "Token expired": prose, not credentials.
    if value.isalpha() and value[1:].islower():
        return found.group()
    return f"{found.group(1)} {mask}"


def _mask_cards(run: str, mask: str) -> str:
    """Mask card numbers in a run of digits, with or without single separators."""
    groups = [(group.start(), group.group()) for group in re.finditer(r"[0-9]++", run)]
    if sum(len(digits) for _, digits in groups) > _RUN_MAX_DIGITS:
        return mask if len(groups) > 1 else run
    parts: list[str] = []
    done = 0
    for first, (start, _) in enumerate(groups):
        if start < done:
            continue
        digits = ""
        for offset, group in groups[first:]:
            digits += group
            if is_card_number(digits):
                parts += (run[done:start], mask)
                done = offset + len(group)
                break
    return "".join((*parts, run[done:])) if parts else run
