"""The names that users' code imports stay where they are: public_names.txt."""

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import tinytorch
from tinytorch.data import readers

LINES = Path(__file__).with_name("public_names.txt").read_text().splitlines()


def promised():
    """Module -> its public names."""
    names = {}
    for line in LINES:
        if line.startswith(" "):
            module = list(names)[-1]
            names[module] += line.split()
        else:
            names[line] = []
    return names


PROMISED = promised()


@pytest.mark.parametrize("module", PROMISED)
def test_the_module_keeps_its_names(module):
    found = importlib.import_module(module)
    assert not [name for name in PROMISED[module] if not hasattr(found, name)]
    if module != "tinytorch":
        assert getattr(tinytorch, module.removeprefix("tinytorch.")) is found


@pytest.mark.parametrize("module", PROMISED)
def test_it_is_imported_first_and_alone(module):
    names = ", ".join(PROMISED[module])
    code = f"import {module}" + (f"; from {module} import {names}" if names else "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SHORT = sorted(tinytorch._SHORT.items())


@pytest.mark.parametrize(("short", "home"), SHORT)
def test_a_short_name_is_the_same_module(short, home):
    module = importlib.import_module(f"tinytorch.{home}")
    assert importlib.import_module(f"tinytorch.{short}") is module
    assert sys.modules[f"tinytorch.{short}"] is sys.modules[f"tinytorch.{home}"]
    assert getattr(tinytorch, short) is module
    assert module.__name__ == module.__spec__.name == f"tinytorch.{home}"
    assert module.__spec__.origin == module.__file__


@pytest.mark.parametrize("first", ["short", "home"])
def test_whichever_name_comes_first(first):
    """In a new interpreter: one module, whole, with a spec of its own."""
    names = ["tinytorch.readers", "tinytorch.data.readers"]
    a, b = names if first == "short" else names[::-1]
    code = f"""
import importlib, sys
import {a}
import {b}
from tinytorch import readers
assert readers is sys.modules[{a!r}] is sys.modules[{b!r}]
assert readers.__spec__.name == readers.__name__ == "tinytorch.data.readers"
assert readers.__spec__.loader.get_code(readers.__name__)
assert importlib.reload(readers) is readers and readers.read_csv
assert importlib.import_module("tinytorch.readers") is readers
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_objects_of_a_module_with_two_names_are_pickled_by_its_own():
    from tinytorch.readers import Table

    assert Table is readers.Table and Table.__module__ == "tinytorch.data.readers"
    assert pickle.loads(pickle.dumps(Table)) is Table
    assert copy.deepcopy(readers.read_csv) is readers.read_csv
    assert b"tinytorch.data.readers" in pickle.dumps(readers.read_csv)


def test_a_name_that_nobody_has_is_an_import_error():
    with pytest.raises(ModuleNotFoundError, match="tinytorch.nothing"):
        importlib.import_module("tinytorch.nothing")


def test_no_module_takes_the_name_of_a_type():
    """A package tinytorch/int8 would become `tinytorch.int8` as soon as anyone imports it."""
    code = (
        "import pkgutil, tinytorch\n"
        "for module in pkgutil.walk_packages(tinytorch.__path__, 'tinytorch.'):\n"
        "    __import__(module.name)\n"
        "names = [*tinytorch._HOME, *tinytorch._METHODS]\n"
        "print([n for n in names if type(getattr(tinytorch, n)).__name__ == 'module'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
