"""What PyTorch is asked once, so that it need not be there: cases whose answers lie in kept/.

A case is a function of a library, tinytorch or torch, and of the answer that is kept, if there is
one; it gives numbers, texts and tensors in lists and dicts. Cases of functions and layers take
their inputs and weights from the kept answer. Most cases are rows of the tables of the tests that
ask PyTorch itself: a new row there is a new case here. `make_torch_cases.py` writes kept/.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinytorch
from tests.host import (
    test_autograd,
    test_convert,
    test_losses,
    test_nn,
    test_optim,
    test_pytorch_code,
    test_tensor,
    test_tensor_in_place,
    test_tensor_operations,
)

KEPT = Path(__file__).with_name("kept")
Case = Callable[..., Any]


def plain(value: Any) -> Any:
    """As JSON has it: tensors with their types and shapes, floats with nine digits."""
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        numbers = plain(value.reshape(-1).tolist())
        return {"dtype": str(value.dtype), "shape": list(value.shape), "numbers": numbers}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def array(kept: dict[str, Any]) -> np.ndarray:
    return np.array(kept["numbers"], kept["dtype"]).reshape(kept["shape"])


def same(ours: Any, kept: Any) -> None:
    """Assert that what `plain` gave is what is kept."""
    if isinstance(kept, dict) and "numbers" in kept:
        assert (ours["dtype"], ours["shape"]) == (kept["dtype"], kept["shape"])
        close = {"rtol": 1e-8, "atol": 1e-8}
        if kept["dtype"] == "float32":
            close = {"rtol": 1e-4, "atol": 2e-5}
        np.testing.assert_allclose(array(ours), array(kept), **close)
    elif isinstance(kept, dict):
        assert list(ours) == list(kept)
        for key in kept:
            same(ours[key], kept[key])
    elif isinstance(kept, list):
        assert len(ours) == len(kept)
        for mine, other in zip(ours, kept, strict=True):
            same(mine, other)
    elif isinstance(kept, float):  # perhaps of float32, as a list or an item
        np.testing.assert_allclose(ours, kept, rtol=1e-4, atol=2e-5)
    else:
        assert type(ours) is type(kept) and ours == kept


def random(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Four decimals of each, which are short to keep."""
    return np.random.default_rng(seed).uniform(low, high, shape).round(4)


def slopes(lib: Any, y: Any, inputs: list[Any]) -> list[Any]:
    """The gradients of a sum in which each output counts differently; zeros where there is none."""
    parts = [part for part in (y if isinstance(y, (tuple, list)) else [y]) if part is not None]
    weights = [np.linspace(-1, 1.5, int(np.prod(t.shape))).reshape(tuple(t.shape)) for t in parts]
    total = sum((t * lib.tensor(w)).sum() for t, w in zip(parts, weights, strict=True))
    total.backward()
    return [lib.zeros_like(t) if t.grad is None else t.grad for t in inputs]


def function(f: Callable[..., Any], *arrays: np.ndarray) -> Case:
    """A case of f(library, *tensors): its values, and its gradients for inputs of floats."""

    def case(lib: Any, kept: Any = None) -> Any:
        given = arrays if kept is None else [array(a) for a in kept["inputs"]]
        inputs = [lib.tensor(a, requires_grad=a.dtype.kind == "f") for a in given]
        y = f(lib, *inputs)
        wanted = [t for t in inputs if t.requires_grad]
        return {"inputs": list(given), "y": y, "gradients": slopes(lib, y, wanted)}

    return case


def method(f: Callable[..., Any], *arrays: np.ndarray) -> Case:
    return function(lambda lib, *tensors: f(*tensors), *arrays)


def functional(name: str, *arrays: np.ndarray, **settings: Any) -> Case:
    return function(lambda lib, *t: getattr(lib.nn.functional, name)(*t, **settings), *arrays)


def numbers_for(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """Random weights and statistics; variances are above zero."""
    found = {}
    for seed, (name, t) in enumerate(state.items()):
        a = t.detach().numpy().copy()
        if a.dtype.kind == "f":
            low, high = (0.5, 1.5) if name.endswith("running_var") else (-0.6, 0.6)
            a = random(*a.shape, seed=seed + 10, low=low, high=high)
        found[name] = a
    return found


def layer(make: Callable[..., Any], *arrays: np.ndarray, training: bool = True) -> Case:
    """A case of a layer: outputs, gradients of inputs and weights, its state after that."""

    def case(lib: Any, kept: Any = None) -> Any:
        net = make(lib.nn).double().train(training)
        given = arrays if kept is None else [array(a) for a in kept["inputs"]]
        state = numbers_for(net.state_dict())
        if kept is not None:
            state = {name: array(a) for name, a in kept["weights"].items()}
        net.load_state_dict({name: lib.tensor(a.copy()) for name, a in state.items()})
        inputs = [lib.tensor(a, requires_grad=a.dtype.kind == "f") for a in given]
        y = net(*(t * 1 for t in inputs))  # no leaf: some layers work in place
        parameters = dict(net.named_parameters())
        wanted = [t for t in (*inputs, *parameters.values()) if t.requires_grad]
        if isinstance(y, tuple):  # with the last state of recurrent layers
            y = [y[0], *(y[1] if isinstance(y[1], tuple) else [y[1]])]
        return {
            "inputs": list(given), "weights": state, "y": y,
            "gradients": slopes(lib, y, wanted) if wanted else [],
            "buffers after": dict(net.named_buffers()),
        }  # fmt: skip

    return case


def program(f: Callable[[Any], Any]) -> Case:
    """A case that needs no input."""
    return lambda lib, kept=None: f(lib)


def padded(lib: Any) -> Callable[..., Any]:
    """Ours has the modes of padding as a method of tensors."""
    return lib.Tensor.pad if lib is tinytorch else lib.nn.functional.pad


def operations() -> dict[str, Case]:
    t = test_tensor_operations
    a, b = random(2, 3, 4), random(2, 3, 4, seed=1)
    cases = {f"element: {n}": method(f, a) for n, f in t.ELEMENTS.items()}
    cases |= {f"pair: {n}": method(f, a, b[:, :1]) for n, f in t.PAIRS.items()}
    cases |= {f"shape: {n}": method(f, a) for n, f in t.SHAPES.items()}
    cases |= {f"reduction: {n}": method(f, a) for n, f in t.REDUCTIONS.items()}
    cases |= {
        f"matrix: {n}": method(f, a, random(2, 4, 5, seed=1)) for n, f in t.MATRICES.items()
    }  # fmt: skip
    corner = np.array([-1.0, 0.0, 2.0, 2.0])
    cases |= {f"corner: {n}": method(f, corner) for n, f in t.CORNERS.items()}
    one = random(2, 3, 4, low=0.5)
    cases |= {f"autograd: {n}": method(f, one) for n, f in test_autograd.UNARY.items()}
    cases |= {f"autograd: {n}": method(f, one, one[:, :1]) for n, f in test_autograd.BINARY.items()}
    for name, f in t.QUESTIONS.items():
        pair = random(3, 4), random(3, 4, seed=1)

        def question(lib: Any, f: Any = f, pair: Any = pair) -> Any:
            with np.errstate(all="ignore"):
                return f(*map(lib.tensor, pair))

        cases[f"question: {name}"] = program(question)
    for mode in ("constant", "reflect", "replicate", "circular"):
        cases[f"pad: {mode}"] = function(
            lambda lib, t, mode=mode: padded(lib)(t, (1, 2), mode=mode), a
        )  # fmt: skip
    return cases


def tensors() -> dict[str, Case]:
    cases = {f"made: {n}": program(f) for n, f in test_tensor.MADE.items()}
    for name, f in test_tensor_in_place.PROGRAMS.items():
        cases[f"in place: {name}"] = program(lambda lib, f=f: test_tensor_in_place.run(lib, f))
    return cases


def functions() -> dict[str, Case]:
    """Activations, losses and layers of nn.functional."""
    t, cases = test_losses, {}
    x = 3 * random(3, 4)
    for name, choices in t.ACTIVATIONS.items():
        for settings in choices:
            cases[f"{name} {settings or ''}".strip()] = functional(name, x, **settings)
    for name, (make, aim, choices) in t.LOSSES.items():
        inputs = make(random(3, 4)), aim(random(3, 4, seed=1, low=0.01, high=0.99))
        for settings in choices:
            for reduction in ("mean", "sum", "none"):
                told = {**settings, "reduction": reduction}
                cases[f"{name} {told}"] = functional(name, *inputs, **told)
    weight = random(4, low=0.5)
    for name, settings in (
        ("cross_entropy", {}), ("cross_entropy", {"label_smoothing": 0.3, "ignore_index": 1}),
        ("nll_loss", {"ignore_index": 2}), ("nll_loss", {"reduction": "none"}),
    ):  # fmt: skip
        cases[f"{name} {settings}"] = function(
            lambda lib, x, target, w, n=name, told=settings: getattr(lib.nn.functional, n)(
                x, target, w.detach(), **told
            ),
            random(3, 4, 2), np.array([[0, 1], [2, 3], [3, 2]]), weight,
        )  # fmt: skip
    cases["cross_entropy of probabilities"] = functional(
        "cross_entropy", random(3, 4), random(3, 4, seed=1, low=0.0)
    )
    for name, (f, *shapes) in t.FUNCTIONS.items():
        arrays = [random(*shape, seed=i) for i, shape in enumerate(shapes)]
        cases[name] = function(lambda lib, *a, f=f: f(lib.nn.functional, *a), *arrays)
    q, k, v = random(2, 3, 4), random(2, 5, 4, seed=1), random(2, 5, 3, seed=2)
    attention = "scaled_dot_product_attention"
    cases[attention] = functional(attention, q, k, v)
    cases[f"{attention}, causal"] = functional(attention, q, k, v, is_causal=True, scale=0.3)
    mask = np.arange(15).reshape(3, 5) % 3 != 1
    cases[f"{attention}, masked"] = functional(attention, q, k, v, mask)
    cases["embedding"] = functional("embedding", np.array([[1, 0], [3, 1]]), random(4, 3))
    cases["one_hot"] = program(lambda lib: lib.nn.functional.one_hot(lib.tensor([1, 0, 3])))
    return cases


def layers() -> dict[str, Case]:
    cases = {n: layer(f, random(*shape)) for n, (f, shape) in test_nn.LAYERS.items()}
    for name, (f, shape) in test_convert.LAYERS.items():
        x = np.array([[0, 1], [4, 2]]) if shape is None else random(*shape)
        cases[f"evaluated: {name}"] = layer(f, x, training=False)
    for name, (arguments, kind) in test_losses.MODULES.items():
        target = np.arange(6) % 3 if kind == "classes" else random(6, 3, seed=1, low=0.0, high=1.0)
        inputs = random(6, 3, low=0.1, high=0.9), target
        cases[name] = layer(lambda m, n=name, a=arguments: getattr(m, n)(**a), *inputs)
    x, memory = random(3, 2, 4), random(5, 2, 4, seed=1)
    cases["MultiheadAttention"] = layer(lambda m: m.MultiheadAttention(4, 2), x, memory, memory / 2)
    cases["MultiheadAttention of other widths"] = layer(
        lambda m: m.MultiheadAttention(4, 2, bias=False, kdim=6, vdim=3, batch_first=True),
        random(2, 3, 4), random(2, 5, 6, seed=1), random(2, 5, 3, seed=2),
    )  # fmt: skip
    for name, f in test_nn.REPRS.items():
        cases[f"printed: {name}"] = program(lambda lib, f=f: repr(f(lib.nn)))
    return cases | {f"modules: {f.__name__}": program(f) for f in test_nn.SAME}


def optimizers() -> dict[str, Case]:
    cases = {}
    for name in test_optim.CASES:

        def train(lib: Any, name: str = name) -> Any:
            a, b = (lib.nn.Parameter(lib.tensor(random(*shape))) for shape in ((3, 4), (5,)))
            optimizer = test_optim.make(
                lib.optim, name, [{"params": [a]}, {"params": [b], "lr": 0.03}]
            )
            after = []
            for step in range(6):
                a.grad = lib.tensor(random(3, 4, seed=step))
                b.grad = None if step == 2 else lib.tensor(random(5, seed=step))
                optimizer.step()
                after.append([a.detach() + 0, b.detach() + 0])
            return after

        cases[name] = program(train)
    for name, make in test_optim.SCHEDULES.items():

        def schedule(lib: Any, make: Any = make) -> Any:
            optimizer = test_optim.two_groups(lib, "SGD", lr=0.1, momentum=0.9)
            plan, seen = make(lib.optim.lr_scheduler, optimizer), []
            for _ in range(23):
                optimizer.step()
                plan.step()
                seen.append(test_optim.options(optimizer))
            return np.array(seen)

        cases[name] = program(schedule)
    return cases


def programs() -> dict[str, Case]:
    """pytorch_snippets.py."""
    t = test_pytorch_code
    return {name: program(lambda lib, n=name: t.of_library(lib)[n]()) for name in t.NAMES}


GROUPS: dict[str, dict[str, Case]] = {
    f.__name__: f() for f in (operations, tensors, functions, layers, optimizers, programs)
}  # fmt: skip


def read(group: str) -> dict[str, Any]:
    return json.loads((KEPT / f"{group}.json").read_text())


def write(group: str, answers: dict[str, Any]) -> None:
    """One case a line."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(answer, separators=(',', ':'))}"
        for name, answer in answers.items()
    ]
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{group}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
