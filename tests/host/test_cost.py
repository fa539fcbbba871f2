"""Forecast cycles against those on the emulated core, for shapes that the fit has not seen."""

import numpy as np

from tests import costs
from tests.sweeps import examples, sweep
from tinytorch.machine.armv6m import cost


@sweep
def test_forecasts_are_near_what_is_measured():
    seeds = range(5000, 5000 + examples(20, long=100))
    found = costs.cases(seeds)
    assert len(found) > 2 * len(seeds)
    errors = np.abs(costs.errors(found, cost.COEFFICIENTS))
    assert np.median(errors) < 0.015
    assert np.quantile(errors, 0.9) < 0.06
    assert [cost.cycles(shape.counts()) for shape, _ in found] == [
        round(n * (1 + e))
        for (_, n), e in zip(found, costs.errors(found, cost.COEFFICIENTS), strict=True)
    ]
