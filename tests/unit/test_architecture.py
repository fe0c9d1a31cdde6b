"""The rules of docs/architecture.md, held by reading the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("pipeline", "backends", "django_integration")
MAY_IMPORT = {
    "pipeline": {"pipeline"},
    "backends": {"pipeline", "backends"},
    "django_integration": {"pipeline", "backends", "django_integration"},
}
FILE_MAX_LINES = 400

# Third-party clients, and the only places that may import them (a folder ends in "/").
CLIENTS = {
    "redis": ("pipeline/stream.py",),
    "celery": (
        "pipeline/tasks.py",
        "pipeline/schedule.py",
        "django_integration/celery_app.py",
    ),
    "kombu": ("pipeline/tasks.py", "pipeline/schedule.py"),
    "influxdb_client": ("backends/influx/client.py",),
    "pyarrow": ("pipeline/interchange/parquet.py",),
    "psycopg": (
        "backends/postgres",
        "backends/timescale",
        "backends/partition",
        "backends/statements.py",
        "backends/model_copy.py",
        "backends/sql/",
        "django_integration/databases/",
    ),
}
FORBIDDEN = {
    "pickle": "nothing that is unpickled may come from a wire; use msgspec",
    "cPickle": "nothing that is unpickled may come from a wire; use msgspec",
    "dill": "nothing that is unpickled may come from a wire; use msgspec",
    "shelve": "it pickles; use msgspec",
    "marshal": "nothing of it may come from a wire; use msgspec",
    "pipeline": "write `from tailrace.pipeline import ...`, or there are two copies of the module",
    "backends": "write `from tailrace.backends import ...`, or there are two copies of the module",
    "django_integration": "write `from tailrace.django_integration import ...`, or there are two",
}


class Import(NamedTuple):
    path: Path
    line: int
    module: str

    @property
    def where(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


def sources() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(path: Path) -> Iterator[Import]:
    """Yield what a file imports, by absolute name, imports within functions included."""
    package = ["tailrace", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield Import(path, node.lineno, module)
            for alias in node.names:
                yield Import(path, node.lineno, f"{module}.{alias.name}")


ALL = [found for path in sources() for found in imports_of(path)]


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "tailrace" and len(parts) > 1 else None


def test_the_sources_were_found() -> None:
    assert len(sources()) > 50
    assert {layer_of(found.module) for found in ALL} >= set(LAYERS)


def test_imports_run_one_way() -> None:
    wrong = [
        f"{found.where} imports {found.module}"
        for found in ALL
        if (layer := layer_of(found.module))
        and layer not in MAY_IMPORT[found.path.relative_to(ROOT).parts[0]]
    ]
    assert not wrong, (
        "Imports run django_integration -> backends -> pipeline. Hand the object in as an "
        f"argument instead: {wrong}"
    )


def test_the_pipeline_knows_no_django() -> None:
    wrong = [f.where for f in ALL if f.top == "django" and f.path.is_relative_to(ROOT / "pipeline")]
    assert not wrong, (
        "pipeline/ must work without Django: move this to backends/ or django_integration/ and "
        f"hand in what it gives: {wrong}"
    )


@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_is_imported_where_it_belongs(client: str) -> None:
    wrong = [
        f.where
        for f in ALL
        if f.top == client and not str(f.path.relative_to(ROOT)).startswith(CLIENTS[client])
    ]
    assert not wrong, (
        f"{client} may be imported in {', '.join(CLIENTS[client])} only: call what they offer, "
        f"or add to them what is missing: {wrong}"
    )


@pytest.mark.parametrize("module", FORBIDDEN)
def test_nobody_imports(module: str) -> None:
    wrong = [found.where for found in ALL if found.top == module]
    assert not wrong, f"import {module}: {FORBIDDEN[module]}: {wrong}"


def test_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if "migrations" not in path.parts
        and (lines := len(path.read_text().splitlines())) > FILE_MAX_LINES
    }
    assert not long, f"Make a folder that shows its parts of each of these (file: lines): {long}"


def silent_handlers(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        if not isinstance(node, ast.ExceptHandler):
            continue
        names = {
            part.id for part in ast.walk(node.type or ast.Name("")) if isinstance(part, ast.Name)
        }
        is_broad = node.type is None or names & {"Exception", "BaseException"}
        is_silent = all(
            isinstance(statement, ast.Pass | ast.Continue)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            for statement in node.body
        )
        if is_broad and is_silent:
            yield node.lineno


def suppressions(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("suppress"):
            continue
        if {ast.unparse(argument) for argument in node.args} & {"Exception", "BaseException"}:
            yield node.lineno


def test_no_error_is_swallowed() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources()
        for line in (*silent_handlers(tree(path)), *suppressions(tree(path)))
    ]
    assert not wrong, (
        "Catch what you expect by name, or count and log it; a swallowed error is a lost event "
        f"that nobody looks for: {wrong}"
    )


@pytest.mark.parametrize(
    ("handler", "is_silent"),
    [
        ("except Exception:\n    pass", True),
        ("except:\n    ...", True),
        ("except (ValueError, BaseException):\n    pass", True),
        ("except ValueError:\n    pass", False),
        ("except Exception:\n    log()", False),
    ],
)
def test_the_rule_about_swallowed_errors_can_fail(handler: str, is_silent: bool) -> None:
    found = list(silent_handlers(ast.parse(f"try:\n    x\n{handler}\n")))
    assert bool(found) is is_silent
