"""What the parts of a kernel cost, fitted to cycles on the emulated core.

python -m tests.costs

Runs some hundred convolutions of random shapes in all the ways that the planner could choose, fits
the coefficients of `tinytorch.machine.armv6m.cost` by least squares of the relative error, and
prints them with the errors that are left.
"""

import numpy as np
import pytest

from tests.networks import fill
from tinytorch import nn
from tinytorch.machine.armv6m import tables
from tinytorch.machine.armv6m.weighted import Weighted
from tinytorch.machine.backend import BACKENDS, BOARDS
from tinytorch.machine.pack import pack
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import attach_section
from tinytorch.quantize.calibrate import quantize
from tito.kits.cortex_m0 import Core, CoreModel

CASES = 260
BACKEND = BACKENDS[BOARDS["rp2040"].architecture]
Case = tuple[Weighted, int]


def network(rng: np.random.Generator) -> tuple[nn.Sequential, tuple[int, ...]]:
    """A few convolutions, from small ones to those of a keyword network."""
    c = int(rng.choice([1, 3, 8, 16, 24, 32, 48, 64]))
    h, w = (int(n) for n in rng.choice([1, 2, 5, 8, 10, 13, 16, 25], 2))
    layers: list[nn.Module] = []
    shape = (c, h, w)
    for _ in range(3):
        kernel = (min(int(rng.choice([1, 3, 5])), h), int(rng.choice([1, 3, 3, 5])))
        kernel = (kernel[0] | 1 if h > 1 else 1, kernel[1])
        pad = (kernel[0] // 2, kernel[1] // 2)
        kind = rng.integers(0, 4)
        out = int(rng.choice([4, 8, 16, 24, 32, 48, 64]))
        if kind == 0:
            layers.append(nn.Conv2d(c, c, kernel, padding=pad, groups=c))
        elif kind == 1:
            layers.append(nn.Conv2d(c, out, kernel, int(rng.choice([1, 2])), pad))
            stride = layers[-1].stride
            h, w = (-(-n // (stride if isinstance(stride, int) else stride[0])) for n in (h, w))
            c = out
        else:
            layers.append(nn.Conv2d(c, out, 1))
            c = out
        layers.append(nn.ReLU())
    return nn.Sequential(*layers), shape


def measure(seed: int, core: Core) -> list[Case]:
    """The convolutions of one network and their cycles; planned at random."""
    rng = np.random.default_rng(seed)
    net, shape = network(rng)
    fill(net, rng)
    x = rng.normal(0, 1, (8, *shape))
    tier = "lane" if seed % 3 else "exact"
    model = Model(to_bytes(quantize(net, x, name="n", labels=[], tier=tier)))
    if sum(op.out_h * op.out_w * op.out_c * op.kernel_h * op.kernel_w * op.in_c
           for op in model.operations) > 3_000_000 or model.arena_bytes > 40_000:  # fmt: skip
        return []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Weighted, "cycles", lambda shape, op: float(rng.random()))
        patch.setattr(tables, "MOST_CLIP", int(rng.choice([64, 1 << 14])))
        patch.setattr(tables, "MOST_DOUBT", float(rng.choice([0, 0.25, 0.25])))
        patch.setattr(BACKEND, "most_code", 1 << 16)
        packed = pack(model, BACKEND)
        if len(packed.section) + packed.arena_bytes + len(model._program) > 200_000:
            return []
        run = CoreModel(attach_section(model.data, packed.section), core)
    cycles = run.run(model.quantize(np.moveaxis(x, 1, -1))[0])[1]
    return [
        (choice.shape, n)
        for choice, n in zip(packed.choices, cycles, strict=True)
        if isinstance(choice.shape, Weighted)
    ]


def cases(seeds: range) -> list[Case]:
    core = Core()
    return [case for seed in seeds for case in measure(seed, core)]


def fit(found: list[Case]) -> dict[str, float]:
    """The cost of each thing that is counted, none below nothing."""
    from scipy.optimize import nnls  # scikit-learn brings it

    counted = [shape.counts() for shape, _ in found]
    names = sorted({name for each in counted for name in each})
    table = np.array([[each.get(name, 0.0) for name in names] for each in counted])
    cycles = np.array([n for _, n in found], float)
    values, _ = nnls(table / cycles[:, None], np.ones(len(cycles)))
    return dict(zip(names, values, strict=True))


def errors(found: list[Case], coefficients: dict[str, float]) -> np.ndarray:
    """Relative errors of the forecast."""
    forecast = [
        sum(coefficients.get(name, 0.0) * n for name, n in shape.counts().items())
        for shape, _ in found
    ]
    return np.array(forecast) / [n for _, n in found] - 1


def main() -> None:
    found = cases(range(CASES))
    coefficients = fit(found)
    print("COEFFICIENTS = {")
    for name, value in coefficients.items():
        print(f'    "{name}": {value:.3f},')
    print("}")
    e = np.abs(errors(found, coefficients))
    print(f"{len(found)} kernels: error median {np.median(e):.1%}, 95 % below "
          f"{np.quantile(e, 0.95):.1%}, worst {e.max():.1%}")  # fmt: skip
    for i in np.argsort(-e)[:4]:
        print(f"  {e[i]:.1%} {found[i][1]:,} {found[i][0]}")


if __name__ == "__main__":
    main()
