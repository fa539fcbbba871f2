"""What all optimizers share: groups of parameters, their state, and a step over flat arrays.

Each optimizer is a class that holds the options and a function on flat arrays (optim/flat.py).
Where numba is installed, the function of the same name and arguments in ops.numba_kernels does the
work.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tinytorch.autograd.aliasing import changed_at
from tinytorch.autograd.tensor import Tensor
from tinytorch.ops import compiled, memory
from tinytorch.ops.array import Array
from tinytorch.optim.flat import Flat

BLOCK = 1 << 17  # elements that numpy takes at a time: more overflow the cache, fewer cost calls
SMALL = 1 << 10  # elements of a flat array; below, numba is not worth its import

Test = Callable[[Any], bool]


def _is(x: Any, low: float, high: float = math.inf) -> bool:
    return bool(isinstance(x, (int, float, np.number)) and low <= x < high)


ABOVE_0 = "a number above 0", lambda x: _is(x, 0) and x != 0
FROM_0 = "a number of 0 or above", lambda x: _is(x, 0)
TO_1 = "a number from 0 to 1", lambda x: _is(x, 0) and x <= 1
BETAS = (
    "two numbers from 0 up to below 1",
    lambda b: np.shape(b) == (2,) and all(_is(x, 0, 1) for x in b),
)


class Optimizer:
    """Moves parameters along their gradients.

    params: tensors, or (name, tensor) pairs, or dicts {"params": ..., "lr": ...} whose options
    stand for those in `defaults`. param_groups: such dicts, complete; a step reads its options
    there. state: for each parameter that was stepped, its age ("step") and its moments.

    The parameters' data moves into flat arrays. It may be replaced at any time, also by another
    optimizer of the same parameters: what they hold when a step begins is what is stepped.
    Raises ValueError or TypeError for what cannot be optimized and for options out of range.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        kind = type(self).__name__
        if isinstance(params, (Tensor, dict)):
            raise TypeError(f"{kind}: give the parameters, or groups of them, in a list.")
        groups = list(params)
        if not groups:
            raise ValueError(f"{kind}: there are no parameters to optimize.")
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self._flats: list[list[Flat]] = []  # for each group, one for each type of numbers
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """More parameters, as {"params": [...], "lr": ...}."""
        kind = type(self).__name__
        given = param_group["params"]
        entries = [given] if isinstance(given, Tensor) else list(given)
        group = {**self.defaults, **param_group}
        group["params"] = [e[1] if isinstance(e, tuple) else e for e in entries]
        if entries and all(isinstance(e, tuple) for e in entries):
            group["param_names"] = [name for name, _ in entries]
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"{kind}: a {type(p).__name__} cannot be optimized, only a Tensor.")
            if not p.is_leaf:
                raise ValueError(
                    f"{kind}: a tensor that was computed cannot be optimized: give the "
                    "parameters that it was computed from, in a list."
                )
        everything = [p for g in [*self.param_groups, group] for p in g["params"]]
        if len(set(everything)) < len(everything):
            raise ValueError(f"{kind}: a parameter is given twice; a step would move it twice.")
        for name, (words, test) in self._ranges.items():
            if name in group and not test(group[name]):
                raise ValueError(f"{kind}: {name}={group[name]!r} is not {words}.")
        self.param_groups.append(group)
        self._flats.append(self._flatten(group))

    def _flatten(self, group: dict[str, Any]) -> list[Flat]:
        types: dict[np.dtype, list[Tensor]] = {}
        for p in group["params"]:
            types.setdefault(p.dtype, []).append(p)
        return [Flat(params, self.state) for params in types.values()]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.zero_()

    def step(self, closure: "Callable[[], Any] | None" = None) -> Any:
        """Move each parameter that has a gradient.

        closure: computes the gradients before that; what it returns is returned.
        """
        result = None if closure is None else closure()
        for i, group in enumerate(self.param_groups):
            if not all(flat.at_home() for flat in self._flats[i]):
                self._flats[i] = self._flatten(group)
            names = self._moments(group)
            for flat in self._flats[i]:
                update = _compiled(self._update, flat.data)
                for span in flat.spans(names):
                    g = span.gradient()
                    span.ages[...] += 1
                    options = self._options(group, int(span.ages[0]))
                    update(
                        span.data, -g if group["maximize"] else g, *span.moments,
                        *map(float, options),
                    )  # fmt: skip
                    changed_at(span.memory)
        return result

    # What each kind says of itself.

    _ranges: dict[str, tuple[str, Test]] = {"lr": ABOVE_0}  # what an option has to be
    _update: Callable[..., None]  # of parameters, gradients, moments and options; all arrays flat

    def _moments(self, group: dict[str, Any]) -> "tuple[str | None, ...]":
        """The moments' names, in the update's order; None for one that the options do without."""
        return ()

    def _options(self, group: dict[str, Any], age: int) -> tuple[float, ...]:
        """The update's options. age: 1 in the first step of a parameter."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What the next steps depend on, with copies of the tensors.

        As PyTorch's, where parameters are known by their places: {"state": {place: {name: tensor}},
        "param_groups": [...]}; and "kind", the name of the class.
        """
        places = {p: i for i, p in enumerate(self._params())}
        state = {places[p]: _copies(entries) for p, entries in self.state.items()}
        groups = [{**g, "params": [places[p] for p in g["params"]]} for g in self.param_groups]
        return {"kind": type(self).__name__, "state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the optimizer was that gave this state. The tensors are copied.

        Raises ValueError, before anything is changed, for a state of another kind, or of
        parameters that differ in number, name or shape.
        """
        complaint = self._complaint(state_dict)
        if complaint:
            raise ValueError(f"load_state_dict: {complaint}.")
        params = self._params()
        for group, new in zip(self.param_groups, state_dict["param_groups"], strict=True):
            options = {n: tuple(v) if n == "betas" else v for n, v in new.items() if n != "params"}
            group.update(options)
        self.state = defaultdict(dict)
        for i, entries in state_dict["state"].items():
            self.state[params[i]] = _copies(entries)
        self._flats = [self._flatten(group) for group in self.param_groups]

    def _complaint(self, state_dict: dict[str, Any]) -> "str | None":
        """Why this state cannot be loaded."""
        kind = type(self).__name__
        if not state_dict.keys() >= {"state", "param_groups"}:
            return f"this is not the state of an optimizer, it holds {', '.join(state_dict)}"
        if state_dict.get("kind", kind) != kind:
            return f"the state is of {state_dict['kind']}, not of {kind}"
        state, groups = state_dict["state"], state_dict["param_groups"]
        theirs, own = (_counts(g) for g in (groups, self.param_groups))
        if theirs != own:
            return f"the state is of {theirs} parameters, the optimizer has {own}"
        params = self._params()
        unknown = state.keys() - set(range(len(params)))
        if unknown:
            return f"the state is of parameter {min(unknown)}, and there are {len(params)}"
        for group, new in zip(self.param_groups, groups, strict=True):
            names = [name for name in self._moments({**group, **new}) if name is not None]
            for i in state.keys() & set(new["params"]):
                for name in names:
                    shape = getattr(state[i].get(name), "shape", None)
                    if shape != params[i].shape:
                        has = "is missing" if shape is None else f"has {shape}"
                        return f"parameter {i} has shape {params[i].shape}, its {name} {has}"
            named = zip(group.get("param_names", ()), new.get("param_names", ()), strict=False)
            for mine, name in named:  # none, where only one of them knows names
                if mine != name:
                    return f"the state is of {name} where the optimizer has {mine}"
        return None

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


def _copies(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What a state holds of a parameter, with tensors that are nobody else's."""
    return {
        name: Tensor(np.array(value.data)) if isinstance(value, Tensor) else value
        for name, value in entries.items()
    }


def _counts(groups: list[dict[str, Any]]) -> str:
    return " + ".join(str(len(g["params"])) for g in groups)


def _compiled(update: Callable[..., None], flat: Array) -> Callable[..., None]:
    """The compiled twin of an update, where there is one and the flat array is worth it."""
    worth = flat.dtype == np.float32 and len(flat) >= SMALL
    kernels = compiled.kernels() if worth else None
    return getattr(kernels, update.__name__) if kernels else update


def blocks(*arrays: Array) -> Iterator[list[Array]]:
    """The arrays of a step block by block, and two more to write on. Nothing else is allocated."""
    size = min(BLOCK, len(arrays[0]))
    scratch = [memory.empty((size,), arrays[0].dtype) for _ in range(2)]
    for i in range(0, len(arrays[0]), BLOCK):
        block = [a[i : i + BLOCK] for a in arrays]
        yield [*block, *(s[: len(block[0])] for s in scratch)]
