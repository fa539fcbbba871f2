"""Oracles that a laptop may lack. CI always has them: there, a missing one is an error."""

import importlib
import os

import pytest


def oracle(name: str, extra: str):
    """The module `name`; without it the importing tests are skipped, and name what is missing."""
    if os.environ.get("CI"):
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"no {name}: pip install 'tinytorch[{extra}]'")
