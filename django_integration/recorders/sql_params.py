"""Parameters of a statement: kept only where the owner asked for it, and then masked.

A parameter has no name of its own. In a plain ``INSERT`` it is as secret as the column of the
same position. In any other statement that mentions a secret name all parameters are masked: which
one meets which column only the database's parser could tell (``SET password = CASE WHEN id = %s
THEN %s``). What remains is masked by its shape.
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

from .sql_text import RAW_SQL_MAX_CHARS

PARAMS_MAX = 100
"""Parameters of a statement that are kept; of ``executemany`` those of the first row."""
PARAM_MAX_CHARS = 1_000
PARAMS_MAX_CHARS = 4_096
# Masked first and cut then: half a secret would not be recognised.
_UNMASKED_MAX_CHARS = 4_096

_PLAIN = (type(None), bool, int, float, str, dt.datetime, dt.date, dt.time, dt.timedelta,
          decimal.Decimal, uuid.UUID)  # fmt: skip
_NAME = re.compile(r"\w++")
_INSERT = re.compile(r"\s*(?:INSERT|REPLACE)\b[^(]*+\(([^()]*+)\)\s*VALUES\s*(.*)", re.I | re.S)
_PURE_ROWS = re.compile(
    r"(\((?:%s(?:, ?|(?=\))))+\))(?:, ?\([%s, ]*+\))*+\s*(?:RETURNING\b.*)?", re.S
)


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
    secrets = _secret_positions(sql, masker.mask_name)
    shown: Any
    if isinstance(params, dict):
        shown = dict.fromkeys(params, MASK) if any(secrets) else masker.mask_value(params)
    else:
        shown = [
            MASK if is_secret else _shortened(masker.mask_value(value))
            for value, is_secret in zip(params, itertools.cycle(secrets), strict=False)
        ]
    return json.dumps(shown, ensure_ascii=False)[:PARAMS_MAX_CHARS]


@functools.lru_cache(maxsize=1024)
def _secret_positions(sql: str, is_secret: Callable[[str], bool]) -> tuple[bool, ...]:
    """Return which parameters are secret, from the first on and over again."""
    # A text that was cut may have lost the name that tells.
    is_any_secret = len(sql) >= RAW_SQL_MAX_CHARS or any(map(is_secret, _NAME.findall(sql)))
    insert = _INSERT.match(sql) if is_any_secret else None
    if insert is not None:
        columns = tuple(is_secret(name) for name in insert.group(1).split(","))
        # "VALUES (now(), %s)" would shift the columns, and what follows the rows is unknown.
        rows = _PURE_ROWS.fullmatch(insert.group(2))
        if rows is not None and rows.group(1).count("%s") == len(columns):
            return columns
    return (is_any_secret,)


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
