"""Chance is the same in every run of a test; in CI, hypothesis draws the same examples, too."""

import os
import sys

import hypothesis
import pytest

import tinytorch

hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def seeded():
    tinytorch.manual_seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
