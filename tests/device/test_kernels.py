"""The board's kernels equal the specification to the byte, and allocate nothing."""

import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, micropython
from tests.networks import random_network
from tests.operations import KINDS_AND_TIERS, Reference, random_case
from tests.streams import random_case as random_stream
from tests.sweeps import examples, sweep
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import INPUT, Node, Operation, Quant, QuantizedNet
from tinytorch_core.model import DENSE
from tinytorch_core.quant import ACC_LIMIT

CASES = examples(100, long=250)
CASE = "<IHHH"  # as in check_kernels.py


def on_the_board(code: str, heap: str = "4m"):
    path = ":".join(str(ROOT / p) for p in ("device", "shared", "tests/device"))
    run = subprocess.run(
        [micropython(), "-X", f"heapsize={heap}", "-c", f"import check_kernels as c, json; {code}"],
        capture_output=True, text=True, timeout=120, env={"MICROPYPATH": path},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr or run.stdout
    return json.loads(run.stdout)


def write(path: Path, cases) -> None:
    with path.open("wb") as f:
        for data, x, y in cases:
            f.write(struct.pack(CASE, len(data), len(x), x[0].nbytes, y[0].nbytes))
            f.write(data + x.tobytes() + y.tobytes())


@sweep
@pytest.mark.parametrize(("kind", "tier"), KINDS_AND_TIERS)
def test_kernels_equal_the_specification(kind, tier, tmp_path):
    path = tmp_path / kind
    write(path, (random_case(kind, seed, tier) for seed in range(CASES)))
    assert on_the_board(f"print(json.dumps(c.agreeing({str(path)!r})))") == [CASES, CASES]


def wide_case(seed: int):
    """A dense layer whose sums reach both ends of the allowed accumulator, at every shift."""
    rng = np.random.default_rng(seed)
    inputs, outputs = 200, 24
    signs = rng.choice([-1, 1], (outputs, 1))
    weight = np.full((outputs, inputs), 127) * signs
    shift = rng.integers(-31, 4, outputs)
    # x = 127 everywhere, zero point -128: the largest sum; the bias lifts it to the limit.
    limit = (ACC_LIMIT - 1 >> np.maximum(shift, 0)) - rng.integers(0, 3, outputs)
    bias = signs[:, 0] * (limit - 127 * 255 * inputs)
    multiplier = rng.choice([1 << 30, (1 << 31) - 1, rng.integers(1 << 30, 1 << 31)], outputs)
    operation = Operation(
        Node("wide", DENSE, (INPUT,), 1, 1, inputs, 1, 1, outputs),
        -128, 0, -128, 127, np.stack([bias, multiplier, shift], 1).astype(np.int32),
        weight.reshape(-1).astype(np.int8),
    )  # fmt: skip
    quant = Quant(1.0, -128)
    net = QuantizedNet("wide", [operation], (inputs,), quant, (outputs,), Quant(1.0, 0), [])
    data, x = to_bytes(net), np.full((2, inputs), 127, np.int8)
    x[1] = -128
    return data, x, Reference(data).run_batch(x)


def test_kernels_equal_the_specification_at_the_largest_sums(tmp_path):
    path = tmp_path / "wide"
    write(path, map(wide_case, range(20)))
    assert on_the_board(f"print(json.dumps(c.agreeing({str(path)!r})))") == [20, 20]


def network_case(seed: int):
    rng = np.random.default_rng(seed)
    layers, shape = random_network(rng, 1 + seed % 2)
    x = rng.normal(0, 1, (20, *shape))
    data = to_bytes(quantize(layers, x, name="network", labels=[]))
    q = rng.integers(-128, 128, (3, *Reference(data).input_shape)).astype(np.int8)
    return data, q, Reference(data).run_batch(q)


def test_networks_equal_the_specification(tmp_path):
    path = tmp_path / "networks"
    write(path, map(network_case, range(30)))
    assert on_the_board(f"print(json.dumps(c.agreeing({str(path)!r})))") == [30, 30]


def stream_case(seed: int):
    case = random_stream(seed, ("exact", "lane")[seed % 2])
    data = to_bytes(case.stream)
    return data, case.x[0], Model(data).run_stream(case.x[:1])[0]


def test_streams_equal_the_specification_from_their_first_step(tmp_path):
    path = tmp_path / "streams"
    write(path, map(stream_case, range(60)))
    assert on_the_board(f"print(json.dumps(c.agreeing({str(path)!r})))") == [60, 60]


def test_a_step_of_a_stream_allocates_nothing(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(stream_case(1)[0])
    code = f"print(json.dumps(c.allocated({str(path)!r})))"
    assert on_the_board(code, "200k") == [0, 0]


@pytest.mark.parametrize(("kind", "tier"), KINDS_AND_TIERS)
def test_a_run_allocates_nothing(kind, tier, tmp_path):
    path = tmp_path / kind
    path.write_bytes(random_case(kind, 1, tier)[0])
    code = f"print(json.dumps(c.allocated({str(path)!r})))"
    assert on_the_board(code, "200k") == [0, 0]


def test_the_checker_sees_a_wrong_byte(tmp_path):
    data, x, y = random_case("dense", 3)
    y[-1, ..., -1] ^= 1
    write(tmp_path / "wrong", [random_case("dense", 2), (data, x, y)])
    code = f"print(json.dumps(c.agreeing({str(tmp_path / 'wrong')!r})))"
    assert on_the_board(code) == [1, 2]
