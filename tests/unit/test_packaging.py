from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = ("pipeline", "backends", "django_integration")
BUILD_TIMEOUT_SECONDS = 120
_LEFT_OUT = ("__pycache__", "build", "dist")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def files_of(folder: Path, *suffixes: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix in suffixes
        and not any(part in _LEFT_OUT for part in path.parts)
    }


def packages_in_tree() -> set[str]:
    folders = {Path(name).parent for top in TOP_LEVEL for name in files_of(ROOT / top, ".py")}
    return {"tailrace." + ".".join(folder.parts) for folder in folders}


def test_the_list_of_packages_equals_the_tree() -> None:
    listed = pyproject()["tool"]["setuptools"]["packages"]
    missing = sorted(packages_in_tree() - set(listed))
    extra = sorted(set(listed) - packages_in_tree())
    assert not missing, (
        f"add to `packages` in pyproject.toml, or they will be missing in the wheel: {missing}"
    )
    assert not extra, f"take out of `packages` in pyproject.toml, they are gone: {extra}"
    assert len(listed) == len(set(listed)), "a package is listed twice in pyproject.toml"


def test_every_package_has_an_init_file() -> None:
    """The root is a PEP 420 namespace; anything below it that is one too is a mistake."""
    for package in sorted(packages_in_tree()):
        folder = ROOT.joinpath(*package.split(".")[1:])
        assert (folder / "__init__.py").exists(), f"add {folder.relative_to(ROOT)}/__init__.py"


def test_there_is_no_root_package() -> None:
    assert not (ROOT / "tailrace").exists(), "tailrace is a namespace: it has no folder of its own"
    assert not (ROOT / "__init__.py").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build sdist and wheel, with the build tools that are installed: no network is needed."""
    out = tmp_path_factory.mktemp("dist")
    work = tmp_path_factory.mktemp("source")
    # setuptools writes build/ and *.egg-info beside the sources; keep the tree clean.
    subprocess.run(
        [sys.executable, "-c", _BUILD, str(ROOT), str(work), str(out)],
        check=True,
        timeout=BUILD_TIMEOUT_SECONDS,
        capture_output=True,
        cwd=work,
    )
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


_BUILD = """
import os, shutil, sys
from pathlib import Path
root, work, out = map(Path, sys.argv[1:])
ignore = shutil.ignore_patterns("__pycache__", "*.sqlite3*", ".*", "build", "dist", "*.egg-info")
shutil.copytree(root, work / "tree", ignore=ignore)
os.chdir(work / "tree")
from setuptools import build_meta
build_meta.build_sdist(str(out))
build_meta.build_wheel(str(out))
"""


def test_the_wheel_holds_every_module_and_data_file(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as archive:
        names = set(archive.namelist())
    expected = {
        f"tailrace/{name}"
        for top in TOP_LEVEL
        for name in files_of(ROOT / top, ".py", ".sql", ".html", ".css", ".js", ".typed")
    }
    missing = sorted(expected - names)
    assert not missing, f"add to `packages` or `package-data` in pyproject.toml: {missing}"
    outside = {name.split("/")[0] for name in names if not name.startswith("django_tailrace-")}
    assert outside == {"tailrace"}, "a top-level `pipeline` would overwrite other people's packages"
    assert "tailrace/__init__.py" not in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_is_needed_to_test_it(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/conftest.py"):
        assert name in names, f"add {name} to MANIFEST.in"
    missing = sorted(files_of(ROOT / "tests", ".py") - names)
    assert not missing, f"add to MANIFEST.in: {missing}"


_IMPORT = """
import importlib, importlib.util, sys
target = sys.argv[1]
# The editable install of this repository must not answer instead of the wheel.
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path.insert(0, target)
for name in sys.argv[2:]:
    assert importlib.util.find_spec(name).origin.startswith(target), name
import tailrace.pipeline, tailrace.backends.base, tailrace.backends.memory
import tailrace.backends.testing, tailrace.pipeline.drain
assert tailrace.pipeline.record.__module__.startswith("tailrace.pipeline")
print(tailrace.pipeline.__file__)
"""


def test_the_wheel_works_from_another_directory(built: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "site"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--target", str(target), str(built[0])),
        ],
        check=True,
        timeout=BUILD_TIMEOUT_SECONDS,
        capture_output=True,
        cwd=tmp_path,
    )
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, str(target), *sorted(packages_in_tree())],
        timeout=BUILD_TIMEOUT_SECONDS,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(target))
    assert (target / "tailrace" / "pipeline" / "py.typed").exists()
