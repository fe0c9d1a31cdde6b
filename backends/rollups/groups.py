"""Values grouped by, as the text in ``RollupBucket.group``, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tailrace.backends.reading.columns import ReadingSchema

Group = tuple[Any, ...]
_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder(list[Any]).decode


def group_text(group: Group) -> str:
    """Return the values as a JSON list; equal groups have equal texts."""
    return _encode(group).decode()


def group_reader(source: str | ReadingSchema, names: Sequence[str]) -> Callable[[str], Group]:
    """Return what undoes :func:`group_text`.

    Args:
        source: A measurement, whose tags are texts; or a model, whose columns know their types.
        names: What is grouped by, in order.
    """
    if isinstance(source, str):
        return lambda text: tuple(_decode(text))
    columns = [source.column(name) for name in names]
    convert = [
        (column.target_field if column.is_relation else column).to_python for column in columns
    ]

    def read(text: str) -> Group:
        return tuple(
            None if value is None else to_python(value)
            for to_python, value in zip(convert, _decode(text), strict=True)
        )

    return read
