"""The parameter that names a backend."""

from __future__ import annotations

from tailrace.pipeline.backfill.parameters import Parameter
from tailrace.pipeline.runtime import runtime


def backend_parameter(label: str) -> Parameter:
    """Return it; it must be given where no backend is called ``default``."""
    aliases = tuple((alias, alias) for alias in runtime().aliases)
    default = "default" if "default" in runtime().aliases else None
    return Parameter(
        name="backend",
        type="choice",
        choices=aliases,
        default=default,
        is_required=default is None,
        label=label,
    )
