"""Oracles that a laptop may lack: without one, the tests that ask it are skipped, and say why."""

import importlib
import os
from typing import Any, NoReturn

import pytest


class Missing:
    """Stands for a missing module and for everything in it; a test that uses it is skipped.

    Attributes are free, so that the file that asks for the module can be read and its other tests
    run. So are classes derived from it, but not their instances.
    """

    def __init__(self, why: str) -> None:
        self._why = why

    def __getattr__(self, name: str) -> "Missing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **settings: Any) -> NoReturn:
        pytest.skip(self._why)

    def __instancecheck__(self, instance: Any) -> NoReturn:
        pytest.skip(self._why)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type]:
        return (type("Base", (), {"__new__": lambda cls, *args, **settings: self()}),)


def oracle(name: str, extra: str) -> Any:
    """The module `name` of the package's `extra`, or what stands for it where it is missing.

    What the extra `test` installs is always there in CI: there, a missing one is an error.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        asked = {name, name.partition(".")[0], name.rpartition(".")[2]}
        if error.name not in asked or (extra == "test" and os.environ.get("CI")):
            raise
        return Missing(f"no {error.name}: pip install 'tinytorch[{extra}]'")
