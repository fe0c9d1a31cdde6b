"""Parameters of a statement: kept only where the owner asked for it, and then masked.

A parameter has no name of its own. It is as secret as the column it is compared with or stored
in: all names between the placeholder before and this one count, and in an ``INSERT`` the
column of the same position. Where that is not sure, everything is masked.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import itertools
import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tailrace.pipeline.masking import MASK, Masker

PARAMS_MAX = 100
"""Parameters of a statement that are kept; of ``executemany`` those of the first row."""
PARAM_MAX_CHARS = 1_000
PARAMS_MAX_CHARS = 4_096
# Masked first and cut then: half a secret would not be recognised.
_UNMASKED_MAX_CHARS = 4_096

_PLAIN = (type(None), bool, int, float, str, dt.datetime, dt.date, dt.time, dt.timedelta,
          decimal.Decimal, uuid.UUID)  # fmt: skip
_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?s")
_NAME = re.compile(r"\w++")
_INSERT = re.compile(r"\s*(?:INSERT|REPLACE)\b[^(]*+\(([^()]*+)\)\s*VALUES\s*(.*)", re.I | re.S)
_PURE_ROWS = re.compile(r"\((?:%s(?:, ?|(?=\))))+\)")


def plain_params(params: Any, many: bool) -> list[Any] | dict[str, Any] | None:
    """Return parameters as scalars that keep nothing alive; for the request's thread."""
    if many:
        params = params[0] if isinstance(params, list | tuple) and params else None
    if isinstance(params, Mapping):
        pairs = itertools.islice(params.items(), PARAMS_MAX)
        return {str(name): _plain(value) for name, value in pairs}
    if isinstance(params, list | tuple):
        return [_plain(value) for value in params[:PARAMS_MAX]]
    return None


def shown_params(sql: str, params: list[Any] | dict[str, Any], masker: Masker) -> str:
    """Return parameters as JSON, secret ones masked.

    Args:
        sql: The statement, with its placeholders.
        params: What :func:`plain_params` gave.
        masker: Knows what is secret.
    """
    shown: Any
    if isinstance(params, dict):
        # psycopg's named placeholders: the names around them count as much as their own.
        is_any_secret = any(_secret_placeholders(sql, masker.mask_name))
        shown = dict.fromkeys(params, MASK) if is_any_secret else masker.mask_value(params)
    else:
        secrets = _secret_placeholders(sql, masker.mask_name)
        if len(secrets) < len(params):  # the text was cut
            secrets += (True,) * (len(params) - len(secrets))
        shown = [
            MASK if is_secret else _shortened(masker.mask_value(value))
            for value, is_secret in zip(params, secrets, strict=False)
        ]
    return json.dumps(shown, ensure_ascii=False)[:PARAMS_MAX_CHARS]


@functools.lru_cache(maxsize=1024)
def _secret_placeholders(sql: str, is_secret: Callable[[str], bool]) -> tuple[bool, ...]:
    insert = _INSERT.match(sql)
    if insert is not None:
        return _secret_columns(insert, sql.count("%s"), is_secret)
    secrets = []
    start = 0
    is_secret_now = False
    for placeholder in _PLACEHOLDER.finditer(sql):
        names = _NAME.findall(sql, start, placeholder.start())
        start = placeholder.end()
        if names:  # else it goes on, as in IN (%s, %s)
            is_secret_now = any(is_secret(name) for name in names)
        secrets.append(is_secret_now)
    return tuple(secrets)


def _secret_columns(
    insert: re.Match[str], placeholders: int, is_secret: Callable[[str], bool]
) -> tuple[bool, ...]:
    columns = [is_secret(name) for name in insert.group(1).split(",")]
    if not any(columns):
        return (False,) * placeholders
    # "VALUES (now(), %s)" would shift the columns.
    first_row = _PURE_ROWS.match(insert.group(2))
    if first_row is None or first_row.group().count("%s") != len(columns):
        return (True,) * placeholders
    return tuple(itertools.islice(itertools.cycle(columns), placeholders))


def _shortened(value: Any) -> Any:
    return value[:PARAM_MAX_CHARS] if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_UNMASKED_MAX_CHARS]
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[:PARAMS_MAX]]
    return f"<{type(value).__name__}>"
