"""The numpy kernels equal the specification to the byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operations import KINDS, random_case
from tinytorch.runtime import Model


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_numpy_equals_the_reference(kind, seed):
    data, x, expected = random_case(kind, seed)
    np.testing.assert_array_equal(Model(data).run_batch(x), expected)
