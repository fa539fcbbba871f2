"""The compiled kernels against numpy, and the switch between them."""

import inspect
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import tinytorch
from tests.oracles import oracle
from tinytorch import nn, ops
from tinytorch.ops import activations, array, compiled, layers, numba_kernels
from tinytorch.ops.array import Array

torch = oracle("torch", "oracle")

TWINS = {
    name: f
    for module in (activations, array, layers)
    for name, f in vars(module).items()
    if inspect.isfunction(f)
    and f.__code__.co_filename == compiled.__file__  # it was decorated there
}
OPTIMIZERS = {"adam", "sgd", "rmsprop"}
random_cases = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
sizes = st.integers(0, 4)


@pytest.fixture(autouse=True)
def all_sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small and empty arrays, too, go to the compiled kernels; the switch is on again after."""
    monkeypatch.setattr(compiled, "SMALL", 0)
    compiled.enable()
    yield
    compiled.enable()


def numbers(seed: int, *shape: int) -> Array:
    """Some of them equal, some zero; quarters, so that sums of products are exact."""
    return (np.random.default_rng(seed).integers(-9, 10, shape) / 4).astype(np.float32)


def outcomes(operation: Any, *arrays: Array | None, on: bool, **settings: Any) -> list[Any]:
    """The result, all gradients, and the arrays afterwards: some operations write into them."""
    compiled.enable(on)
    copies = [None if a is None else a.copy(order="K") for a in arrays]
    with np.errstate(all="ignore"):  # empty means
        y, gradients = operation(*copies, **settings)
        g = numbers(1, *y.shape).astype(y.dtype)
        found = gradients(g) if callable(gradients) else [f and f(g) for f in gradients]
    return [y, *found, *copies]


def same(operation: Any, *arrays: Array | None, rounding: float = 1e-5, **settings: Any) -> None:
    expected = outcomes(operation, *arrays, on=False, **settings)
    actual = outcomes(operation, *arrays, on=True, **settings)
    for a, b in zip(expected, actual, strict=True):
        if a is not None and b is not None:
            assert a.dtype == b.dtype
            scale = np.max(np.abs(a), initial=1, where=np.isfinite(a))
            np.testing.assert_allclose(b, a, rtol=rounding, atol=rounding * scale)


def test_every_kernel_has_one_twin_on_numpy_with_the_same_arguments() -> None:
    found = {name for name, f in vars(numba_kernels).items() if hasattr(f, "py_func")}
    public = {name for name in found if not name.startswith("_")}
    assert {name.removeprefix("_") for name in TWINS} == public - OPTIMIZERS
    for name, twin in TWINS.items():
        ours = inspect.signature(getattr(numba_kernels, name.removeprefix("_")).py_func).parameters
        assert list(ours) == list(inspect.signature(twin).parameters), name


def test_the_compiled_kernels_are_those_that_ran() -> None:
    before = len(numba_kernels.scale.signatures)
    layers._scale(numbers(0, 8, 3), numbers(1, 3), np.empty((8, 3), np.float32))
    assert len(numba_kernels.scale.signatures) == max(before, 1)


@random_cases
@given(st.data())
def test_convolution(data: Any) -> None:
    dims = data.draw(st.sampled_from([1, 2]))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(dims))

    kernel, stride, padding, dilation = each(1, 4), each(1, 3), each(0, 3), each(1, 3)
    groups = data.draw(st.integers(1, 3))
    inputs, outputs = (groups * data.draw(st.integers(1, 3)) for _ in "io")
    space = each(1, 9)
    reach = zip(space, kernel, padding, dilation, strict=True)
    assume(all(n + 2 * p > d * (k - 1) for n, k, p, d in reach))
    x = numbers(0, data.draw(st.integers(0, 3)), inputs, *space)
    weight = numbers(1, outputs, inputs // groups, *kernel)
    bias = data.draw(st.sampled_from([None, numbers(2, outputs)]))
    for relu in (False, True):
        same(
            ops.conv, x, weight, bias, stride=stride, padding=padding, dilation=dilation,
            groups=groups, relu=relu,
        )  # fmt: skip


@random_cases
@given(st.data())
def test_depthwise_convolution(data: Any) -> None:
    channels, repeats = data.draw(st.integers(2, 9)), data.draw(st.integers(1, 2))
    kernel, stride, dilation, padding = (
        tuple(data.draw(st.integers(low, 3)) for _ in "hw") for low in (1, 1, 1, 0)
    )
    x = numbers(0, data.draw(sizes), channels, 9, 8)
    same(
        ops.conv, x, numbers(1, channels * repeats, 1, *kernel), None,
        stride=stride, padding=padding, dilation=dilation, groups=channels,
    )  # fmt: skip


@random_cases
@given(st.data())
def test_pooling(data: Any) -> None:
    dims = data.draw(st.sampled_from([1, 2]))
    kernel = tuple(data.draw(st.integers(1, 4)) for _ in range(dims))
    stride = tuple(data.draw(st.integers(1, 4)) for _ in range(dims))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    space = [data.draw(st.integers(k, 9)) for k in kernel]
    x = numbers(0, data.draw(sizes), data.draw(st.integers(1, 9)), *space)
    same(ops.max_pool, x, kernel=kernel, stride=stride, padding=padding)
    same(ops.avg_pool, x, kernel=kernel, stride=stride, padding=padding)


def test_a_pool_over_more_places_than_a_byte_counts() -> None:
    same(ops.max_pool, numbers(0, 1, 2, 20, 20), kernel=(20, 20), stride=(1, 1), padding=(0, 0))


@random_cases
@given(st.data())
def test_batch_norm(data: Any) -> None:
    channels = data.draw(st.integers(1, 20))
    space = data.draw(st.sampled_from([(), (5,), (3, 4)]))
    x = numbers(0, data.draw(st.integers(2, 40)), channels, *space) + np.float32(3)
    running = numbers(3, channels), np.abs(numbers(4, channels)) + np.float32(1)
    affine = data.draw(st.booleans())
    # No result lies so near to zero that rounding decides whether the ReLU lets it pass.
    bias = np.where(np.arange(channels) % 2, 50, -50).astype(np.float32)
    weights = (numbers(1, channels), bias) if affine else (None, None)
    same(
        ops.batch_norm, x, *weights, *running, np.array(2), rounding=1e-4,
        training=data.draw(st.booleans()), momentum=data.draw(st.sampled_from([0.1, None])),
        eps=1e-5, relu=affine,
    )  # fmt: skip


def test_a_large_mean_costs_the_variance_no_digits() -> None:
    rows = np.random.default_rng(0).normal(1000, 1, (5000, 3)).astype(np.float32)
    mean, var = np.empty((2, 3), np.float32)
    numba_kernels.moments(rows, mean, var)
    np.testing.assert_allclose(mean, rows.mean(0, np.float64), rtol=1e-6)
    np.testing.assert_allclose(var, rows.var(0, np.float64), rtol=1e-4)


@random_cases
@given(sizes, st.integers(1, 40), st.booleans())
def test_rows(n: int, features: int, whole: bool) -> None:
    x, weight, bias = numbers(0, n, 3, features), numbers(1, features), numbers(2, features)
    layer = (weight, bias) if whole else (None, None)
    same(ops.layer_norm, x, *layer, dims=1, eps=1e-5, rounding=1e-4)
    same(ops.softmax, x, dim=2)
    same(ops.linear, x, numbers(3, 7, features), numbers(4, 7), relu=whole)


@random_cases
@given(sizes, st.integers(1, 20), st.integers(1, 9), st.booleans(), st.booleans())
def test_attention(n: int, keys: int, width: int, causal: bool, masked: bool) -> None:
    q, k, v = numbers(0, n, 2, 5, width), numbers(1, n, 2, keys, width), numbers(2, n, 2, keys, 3)
    mask = numbers(3, 5, keys) > 0 if masked else None
    same(ops.attention, q, k, v, mask, scale=0.3, causal=causal)


@random_cases
@given(st.data())
def test_cross_entropy(data: Any) -> None:
    n, classes = data.draw(st.integers(0, 9)), data.draw(st.integers(1, 20))
    target = np.random.default_rng(5).integers(-1, classes, n)
    same(
        ops.cross_entropy, numbers(0, n, classes), target,
        data.draw(st.sampled_from([None, np.abs(numbers(1, classes)) + np.float32(0.5)])),
        reduction=data.draw(st.sampled_from(["mean", "sum", "none"])), ignore_index=-1,
        label_smoothing=data.draw(st.sampled_from([0.0, 0.1])),
    )  # fmt: skip


@random_cases
@given(st.integers(0, 40), st.integers(0, 9))
def test_embedding(n: int, width: int) -> None:
    index = np.random.default_rng(0).integers(0, 7, (n, 2))
    same(ops.embedding, numbers(0, 7, width), index, padding_idx=1)


ELEMENTWISE = [(ops.relu, {}), (ops.silu, {}), (ops.gelu, {"approximate": "none"})]


@random_cases
@given(st.lists(sizes, max_size=4), st.randoms())
def test_activations(shape: list[int], chance: Any) -> None:
    order = chance.sample(range(len(shape)), len(shape))
    for operation, how in ELEMENTWISE:
        same(operation, numbers(0, *shape).transpose(order), **how)


@pytest.mark.parametrize(("operation", "how"), ELEMENTWISE)
def test_activations_everywhere_they_change(operation: Any, how: dict[str, Any]) -> None:
    same(operation, np.linspace(-30, 30, 4001, dtype=np.float32), **how, rounding=2e-6)


def test_exp_to_its_ends() -> None:
    a = np.concatenate([np.linspace(-87, 88, 100_001), [-200, -np.inf, 200, np.inf, np.nan]])
    a = a.astype(np.float32).astype(np.float64)
    rows = np.stack([np.zeros(len(a)), -a], 1).astype(np.float32)  # softmax: 1 / (1 + exp(-a))
    y = np.empty_like(rows)
    numba_kernels.softmax(rows, y)
    with np.errstate(all="ignore"):
        expected = 1 / (1 + np.exp(-a))
    finite = np.isfinite(a)
    np.testing.assert_allclose(y[finite, 0], expected[finite], rtol=1e-6, atol=1e-37)
    assert np.isnan(y[-1]).all()


def test_nan_and_infinity_are_not_lost() -> None:
    x = numbers(0, 3, 4, 6)
    x[0, 0, 0], x[1, 1, 1], x[2, 2, 2] = np.nan, np.inf, -np.inf
    same(ops.softmax, x, dim=2)
    same(ops.layer_norm, x, None, None, dims=1, eps=1e-5)
    same(ops.relu, x)
    y, _ = ops.max_pool(x, kernel=(2,), stride=(2,), padding=(0,))
    assert np.isnan(y[0, 0, 0]) and np.isfinite(y[2, 2, 1])


@pytest.mark.parametrize("kind", ["float64", "transposed", "sliced", "reversed", "read only"])
def test_arrays_that_numpy_must_do_and_arrays_that_are_copied(kind: str) -> None:
    x = numbers(0, 4, 6, 10, 8)
    x = {
        "float64": x.astype(np.float64), "transposed": x.transpose(0, 3, 2, 1),
        "sliced": x[:, :, ::2, 1:], "reversed": x[::-1, :, ::-1], "read only": x,
    }[kind]  # fmt: skip
    if kind == "read only":
        x.flags.writeable = False
    weight = numbers(1, x.shape[1], 1, 3, 3).astype(x.dtype)
    moves = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": x.shape[1]}
    same(ops.conv, x, weight, None, **moves)
    same(ops.softmax, x, dim=1)
    for operation, how in ELEMENTWISE:
        same(operation, x, **how)
    if kind == "float64":  # to the bit: nothing was compiled for it
        first, second = (outcomes(ops.conv, x, weight, None, **moves, on=on) for on in (0, 1))
        for a, b in zip(first, second, strict=True):
            assert a is b or (a == b).all()


# Nets and optimizers against PyTorch.


def net(lib: Any) -> Any:
    n = lib.nn
    return n.Sequential(
        n.Conv2d(2, 8, 3, stride=2, padding=1), n.BatchNorm2d(8), n.ReLU(),
        n.Conv2d(8, 8, 3, padding=1, groups=8), n.SiLU(), n.MaxPool2d(2), n.Flatten(),
        n.Linear(32, 16), n.LayerNorm(16), n.GELU(), n.Linear(16, 5),
    )  # fmt: skip


def test_the_gradients_of_a_net_are_those_of_torch() -> None:
    torch.manual_seed(0)
    theirs, ours = net(torch), net(tinytorch)
    ours.load_state_dict(
        {k: tinytorch.tensor(v.numpy().copy()) for k, v in theirs.state_dict().items()}
    )
    x, labels = numbers(0, 16, 2, 8, 8), np.arange(16) % 5
    torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels)).backward()
    nn.functional.cross_entropy(ours(tinytorch.tensor(x)), tinytorch.tensor(labels)).backward()
    expected = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(p.grad.data, expected[name].grad, rtol=2e-4, atol=2e-5)


def test_a_step_gives_the_same_bits_every_time() -> None:
    def gradients() -> list[Any]:
        tinytorch.manual_seed(3)
        model = net(tinytorch)
        x = tinytorch.tensor(numbers(0, 16, 2, 8, 8))
        nn.functional.cross_entropy(model(x), tinytorch.tensor(np.arange(16) % 5)).backward()
        return [p.grad.data.tobytes() for p in model.parameters()]

    assert gradients() == gradients()


@random_cases
@given(
    st.integers(0, 50), st.floats(0, 0.99), st.floats(0.5, 0.99), st.booleans(), st.booleans()
)  # fmt: skip
def test_optimizers(n: int, first: float, second: float, other: bool, decay: bool) -> None:
    """Three steps of each against PyTorch's."""
    decay = 0.1 * decay
    momentum, amsgrad = (0.9, True) if first > 0.2 else (0.0, False)
    rules = {
        "adam": (torch.optim.AdamW if other else torch.optim.Adam)(
            [p := torch.tensor(numbers(0, n), requires_grad=True)], 0.01, (first, second),
            weight_decay=decay, amsgrad=amsgrad,
        ),
        "sgd": torch.optim.SGD(
            [q := torch.tensor(numbers(0, n), requires_grad=True)], 0.01, momentum,
            0.0 if other else first, decay, nesterov=other and momentum > 0,
        ),
        "rmsprop": torch.optim.RMSprop(
            [r := torch.tensor(numbers(0, n), requires_grad=True)], 0.01, second, 1e-8, decay,
            momentum, other,
        ),
    }  # fmt: skip
    ours = {name: numbers(0, n) for name in rules}
    a, b, c, d, e, f, top = np.zeros((7, n), np.float32)
    for step in (1, 2, 3):
        g = numbers(step, n) + np.float32(0.05)
        for parameter in (p, q, r):
            parameter.grad = torch.tensor(g)
        for rule in rules.values():
            rule.step()
        bias = 1 - first**step, 1 - second**step
        how = decay, other, amsgrad
        numba_kernels.adam(ours["adam"], g, a, b, top, 0.01, first, second, 1e-8, *how, *bias)
        damp, nesterov = (0.0 if other else first), other and momentum > 0
        numba_kernels.sgd(ours["sgd"], g, c, 0.01, momentum, damp, decay, nesterov, step == 1)
        numba_kernels.rmsprop(
            ours["rmsprop"], g, d, e, f, 0.01, second, 1e-8, decay, momentum, other
        )
    for name, parameter in zip(rules, (p, q, r), strict=True):
        np.testing.assert_allclose(ours[name], parameter.detach(), rtol=2e-4, atol=2e-5)


# The switch.


def test_it_can_be_turned_at_any_time() -> None:
    x, y = numbers(0, 8, 3), np.empty((8, 3), np.float32)
    assert compiled.enabled() and compiled.kernels() is numba_kernels
    compiled.enable(False)
    assert not compiled.enabled() and compiled.kernels() is None
    layers._softmax(x, y)
    off = y.copy()
    compiled.enable()
    layers._softmax(x, y)
    np.testing.assert_allclose(y, off, rtol=1e-6)


LOOK = """
import sys, numpy as np
from tinytorch import fast, ops
was = fast.enabled()
assert "numba" not in sys.modules, "imported too early"
y, _ = ops.relu(np.arange(-500, 500, dtype=np.float32))
assert y.sum() == 499 * 250
print(was, fast.enabled(), "numba" in sys.modules)
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


def test_the_environment_turns_it_off() -> None:
    assert run(LOOK, TINYTORCH_FAST="0").stdout == "False False False\n"
    assert run(LOOK, TINYTORCH_FAST="1").stdout == "True True True\n"


def test_without_numba_numpy_does_the_work() -> None:
    hidden = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "numba":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
sys.meta_path.insert(0, Hidden())
"""
    code = hidden + LOOK + "fast.enable()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False False False\n"
    assert done.stderr.splitlines()[-1] == (
        "ImportError: fast: numba is not installed: pip install 'tinytorch[fast]'."
    )


def test_a_broken_numba_is_told_of_once(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text('raise ImportError("Numba needs another NumPy.")\n')
    done = run(LOOK + "ops.relu(y)", PYTHONPATH=str(tmp_path))
    assert done.stdout == "True False False\n"
    warned = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert len(warned) == 1 and warned[0].endswith(
        "UserWarning: fast: numba is broken, so numpy does the work: Numba needs another NumPy."
    )


def test_a_missing_or_working_numba_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled.kernels() is numba_kernels
