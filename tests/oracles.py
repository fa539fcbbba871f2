"""Oracles that a bare machine may lack. In CI they are always there, and a missing one is an error."""

import importlib
import os

import pytest


def oracle(name: str, extra: str):
    """The module `name`; without it the importing tests are skipped, and say which part is missing."""
    if os.environ.get("CI"):
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"no {name}: pip install 'tinytorch[{extra}]'")
