"""How many cases a sweep over random ones takes: some in every run, all with `pytest --long`."""

import pytest

_long = False


def configure(long: bool) -> None:
    """Called once, before the tests are read."""
    global _long
    _long = long


def examples(short: int, long: int) -> int:
    """Of a test that carries the marker `sweep`: the number of cases in this run."""
    return long if _long else short


sweep = pytest.mark.sweep
