"""Which way imports point: between the folders (host -> shared <- device, tools -> host), between
the wings of host/tinytorch, and never in a circle. And what lies at the top."""

import ast
import fnmatch
import re
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
# A wing of host/tinytorch, or a file beside them: what it stands on. It imports that, and what that
# stands on in turn.
WINGS = {
    "dtypes": "", "random": "", "cache": "", "short_names": "",
    "ops": "dtypes random",
    "autograd": "ops",
    "serialize": "autograd",
    "nn": "autograd", "optim": "autograd", "utils": "autograd",
    "train": "nn optim utils serialize",
    "convert": "nn", "onnx": "nn serialize", "profile": "nn serialize",
    "qops": "",
    "quantize": "qops autograd",  # which traces the nets that are quantized
    "modelfile": "quantize",
    "machine": "modelfile",
    "data": "utils serialize cache",
    "sensing": "train data machine",
    "recipes": "sensing",
    "": "short_names",  # the package's face, which finds the rest by name
}  # fmt: skip
# Who may name the one chip that has machine code so far.
CHIP = {
    "host/tinytorch/machine/backend.py": "the table of chips",
    "tools/tito/kits/cortex_m0.py": "the chip itself, emulated",
    "tools/tito/board/payload.py": "MicroPython's names of all architectures",
}
MOST_LINES = 900
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


def stands_on(wing):
    below = {wing}
    for other in WINGS[wing].split():
        below |= stands_on(other)
    return below


def wing_of(path):
    first = path.relative_to(ROOT / "host/tinytorch").parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def test_wings_import_one_way_only():
    paths = list((ROOT / "host/tinytorch").rglob("*.py"))
    assert {wing_of(path) for path in paths} == set(WINGS)
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in imported(path)
        if name.partition(".")[0] == "tinytorch"
        and (*name.split("."), "")[1] not in stands_on(wing_of(path))
    }
    assert not wrong


def files_of(*folders):
    """Dotted name -> path of each file; a package's face has the package's name."""
    found = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to((ROOT / folder).parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def circles(edges):
    """The sets of nodes of a graph that reach each other (Tarjan, 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(set(stack[at:]))
            del stack[at:]

    for node in edges:
        if node not in index:
            visit(node)
    return found


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set()}) == [{"a", "b", "c"}]
    assert not circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})


@pytest.mark.parametrize(
    "side",
    [
        ("host/tinytorch", "shared/tinytorch_core", "tools/tito"),
        ("device/tinytorch", "shared/tinytorch_core"),
    ],
    ids=["laptop", "board"],
)
def test_no_circle_of_imports(side):
    """Inside functions and for type checkers, too. A package's face may gather its parts."""
    files = files_of(*side)

    def target(name):
        while name and name not in files:
            name = name.rpartition(".")[0]
        return name

    edges = {
        name: {target(other) for other in imported(path)} - {"", name}
        for name, path in files.items()
    }
    assert not circles(edges)


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_file_can_be_read_at_a_sitting(folder):
    lines = {path: path.read_text().count("\n") for path in (ROOT / folder).rglob("*.py")}
    assert not {path.name: n for path, n in lines.items() if n > MOST_LINES}


def test_a_chip_is_named_only_in_its_own_package():
    named = {
        path.relative_to(ROOT).as_posix()
        for folder in ALLOWED
        for path in (ROOT / folder).rglob("*.py")
        if "armv6m" in path.read_text().lower()
    }
    own = {path for path in named if path.startswith("host/tinytorch/machine/armv6m/")}
    assert own
    assert named - own <= set(CHIP)


def test_the_guide_names_files_that_are_there():
    guide = (ROOT / ".github/CONTRIBUTING.md").read_text()
    walk = re.findall(r"^\d+\. `([^`]+)`", guide, re.M)
    assert 15 <= len(walk) <= 20 and len(set(walk)) == len(walk)
    names = {name for name in re.findall(r"`([\w./]+\.py|[\w./]+/[\w/]+)`", guide) if "/" in name}
    roots = ("", "tools/", "host/tinytorch/", "shared/tinytorch_core/", "device/tinytorch/")
    for name in {*walk, *names}:
        assert any((ROOT / root / name).exists() for root in roots), name
