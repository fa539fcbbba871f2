"""Which way imports point (host -> shared <- device, tools -> host), and what lies at the top."""

import ast
import fnmatch
import sys

import pytest

from tests.conftest import ROOT

OURS = {"tinytorch", "tinytorch_core", "tito"}
ALLOWED = {
    "shared/tinytorch_core": {"tinytorch_core"},
    "device/tinytorch": {"tinytorch_core", "tinytorch"},
    "host/tinytorch": {"tinytorch_core", "tinytorch"},
    "tools/tito": OURS,
}
TOP = {"host", "device", "shared", "tools", "tests", "examples", "pyproject.toml", "README.md",
       "LICENSE"}  # fmt: skip


def imported(path):
    """The dotted names of the modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports from the top"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_the_right_way(folder):
    paths = list((ROOT / folder).rglob("*.py"))
    assert paths
    for path in paths:
        tops = {name.split(".")[0] for name in imported(path)}
        assert tops & OURS <= ALLOWED[folder], path
        if folder == "shared/tinytorch_core":  # nothing but the board's standard library
            assert tops - OURS <= sys.stdlib_module_names, path


def test_a_boards_example_needs_only_the_boards_face():
    homes = (ROOT / "device/tinytorch/__init__.py").read_text()
    paths = list((ROOT / "examples").glob("*/run.py"))
    assert paths
    for path in paths:
        assert {name for name in imported(path) if name.split(".")[0] in OURS} == {"tinytorch"}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tinytorch":
                assert f'"{node.attr}":' in homes, f"{path}: tinytorch.{node.attr}"


def test_the_top_holds_what_the_readme_says():
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    found = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    assert {n for n in found if not any(fnmatch.fnmatch(n, i) for i in ignored)} == TOP
    readme = (ROOT / "README.md").read_text()
    for folder in ALLOWED:
        assert f"\n    {folder} " in readme
