"""Run tests/shared under every interpreter: pytest's own and MicroPython.

A file in tests/shared holds plain test_* functions that use only assert, so that the same file
runs under CPython (collected by pytest as usual) and under MicroPython (collected here).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import sweeps

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="sweep over all cases, not over some")


def pytest_configure(config):
    sweeps.configure(config.getoption("--long"))


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "torch" in vars(getattr(item, "module", item)):
            item.add_marker("oracle")
    # Files with kits take longest: begun first, they leave no core idle at the end.
    items.sort(key=lambda item: item.path.parent.name != "tools")
    if not config.getoption("--long"):
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


def micropython() -> str:
    """The MicroPython to test with: $MICROPYTHON, this environment's, or the PATH's."""
    beside = Path(sys.executable).with_name("micropython")
    ours = str(beside) if beside.exists() else shutil.which("micropython")
    found = os.environ.get("MICROPYTHON") or ours
    if not found:
        raise pytest.UsageError(
            "There is no micropython: pip install -e '.[test]', or set MICROPYTHON."
        )
    return found


def pytest_collect_file(file_path, parent):
    if file_path.parent == ROOT / "tests" / "shared" and file_path.match("test_*.py"):
        return MicroPythonFile.from_parent(parent, path=file_path)
    return None


class MicroPythonFile(pytest.File):
    def collect(self):
        for line in self.path.read_text().splitlines():
            if line.startswith("def test_"):
                name = line[4:].split("(")[0]
                yield MicroPythonItem.from_parent(self, name=name + "[micropython]", function=name)


class MicroPythonFailure(Exception):
    pass


class MicroPythonItem(pytest.Item):
    def __init__(self, *, function, **kw):
        super().__init__(**kw)
        self.called = function  # pytest itself looks at `function`, for a callable

    def runtest(self):
        path = ":".join(str(p) for p in (ROOT / "device", ROOT / "shared", self.path.parent))
        code = f"import {self.path.stem} as m; m.{self.called}()"
        run = subprocess.run(
            [micropython(), "-X", "heapsize=400k", "-c", code],
            capture_output=True,
            text=True,
            timeout=120,
            env={"MICROPYPATH": path},
        )
        if run.returncode:
            raise MicroPythonFailure(run.stderr or run.stdout)

    def repr_failure(self, excinfo):
        if excinfo.errisinstance(MicroPythonFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, None, self.name
