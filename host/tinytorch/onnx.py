"""Networks as ONNX files, written from the operations that they ask for.

A net is run on example inputs, in evaluation mode, and what it does is written down: any Module
exports whose operations stand in NODES, whatever its `forward` looks like. What does not depend on
the inputs is computed here and becomes a constant; operations that are made of others
(tinytorch.autograd.decompositions) may be exported as those.

The net runs a second time, with one sample more and the numbers in another order. So sizes that
grow with the batch are told from fixed ones, and a net that hands numbers around the operations, in
its own Python, is found out: its file would give the example's numbers for ever.

Needs the package onnx: pip install 'tinytorch[onnx]'.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinytorch import ops, serialize
from tinytorch.autograd.decompositions import DECOMPOSITIONS
from tinytorch.autograd.tape import no_grad, record
from tinytorch.autograd.tensor import Tensor, tensors_in
from tinytorch.autograd.tracing import tracing
from tinytorch.ops.array import Array, Operation
from tinytorch_core import shapes
from tinytorch_core.nn import Module

OPSET = 20  # of ONNX 1.15: the first one with Gelu
_IR = 9  # the file format of that time


def export(
    net: Module,
    inputs: "Tensor | Sequence[Tensor]",
    path: "str | Path",
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    batch_dim: "int | None" = 0,
) -> None:
    """Write what a net computes in evaluation mode as an ONNX file.

    inputs: an example of each input. batch_dim: the dimension, of all inputs, whose size may be
    another one later; with None, as all others, it stays as it is here. input_names, output_names:
    by default input, input1 ... and output, output1 ...
    Raises ImportError without the package onnx, and ValueError for a net that has no such file.
    """
    try:
        import onnx
    except ImportError:
        raise ImportError(
            "onnx: the package onnx is not installed: pip install 'tinytorch[onnx]'."
        ) from None
    example = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    traces = _Trace(net, example), _Trace(net, _others(example, batch_dim))
    writer = _Writer(onnx, net, traces, batch_dim)
    model = writer.model(
        _named("input", input_names, len(example)),
        _named("output", output_names, len(traces[0].outputs)),
    )
    serialize.write(path, model.SerializeToString())


def _named(kind: str, names: Sequence[str], count: int) -> list[str]:
    if names and len(names) != count:
        raise ValueError(f"onnx: {len(names)} {kind} names do not fit {count} {kind}s.")
    return list(names) or [f"{kind}{i or ''}" for i in range(count)]


def _others(inputs: Sequence[Tensor], batch_dim: "int | None") -> list[Tensor]:
    """Other inputs that the net must be able to take."""
    arrays = [t.data for t in inputs]
    if batch_dim is not None:
        sizes = {a.shape[batch_dim] if batch_dim < a.ndim else None for a in arrays}
        if len(sizes) != 1 or not sizes.isdisjoint({None, 0}):
            raise ValueError(
                f"onnx: inputs {', '.join(str(a.shape) for a in arrays)} have no samples in common "
                f"in dimension {batch_dim}: name another batch_dim, or None."
            )
        arrays = [np.concatenate([a, a.take([0], batch_dim)], batch_dim) for a in arrays]
    return [Tensor(np.flip(a).copy()) for a in arrays]


# What a net does.


class _Call(NamedTuple):
    """An operation on something that depends on the inputs."""

    operation: Operation
    inputs: "list[int | Array | None]"  # numbers of values, or constants
    attrs: dict[str, Any]


class _Trace:
    """A run of a net. Its values are the inputs, and then the result of each call."""

    def __init__(self, net: Module, inputs: Sequence[Tensor]) -> None:
        self.values: list[Array] = []
        self.calls: list[_Call] = []
        self._indices: dict[int, int] = {}  # of values, by the id of the array
        tensors = [Tensor(t.data.copy()) for t in inputs]
        for t in tensors:
            self._add(t.data)
        modes = [(module, module.training) for module in net.modules()]
        net.eval()
        try:
            with no_grad(), tracing(self):
                self.outputs = [self._index_of(t) for t in tensors_in(net(*tensors))]
        finally:
            for module, mode in modes:
                module.training = mode

    def __call__(
        self, operation: Operation, inputs: "tuple[Tensor | None, ...]", attrs: dict[str, Any]
    ) -> Tensor:
        numbers = [None if t is None else self._index_of(t) for t in inputs]
        if not any(isinstance(n, int) for n in numbers):
            return record(operation, inputs, attrs)
        # A batch norm that keeps no statistics has no node of its own.
        without = operation is ops.batch_norm and inputs[3] is None
        if operation not in NODES or without:
            if operation not in DECOMPOSITIONS:
                raise ValueError(f"onnx: the operation {operation.__name__} cannot be exported.")
            return DECOMPOSITIONS[operation](*inputs, **attrs)
        result = record(operation, inputs, attrs)
        self.calls.append(_Call(operation, numbers, attrs))
        self._add(result.data)
        return result

    def _add(self, array: Array) -> None:
        self._indices[id(array)] = len(self.values)
        self.values.append(array)

    def _index_of(self, t: Tensor) -> "int | Array":
        return self._indices.get(id(t.data), t.data)

    def leave(self) -> None:
        raise ValueError(
            "onnx: the net changes a tensor in place, as += does: let it make a new one."
        )

    def changed(self, tensor: Tensor, result: Tensor) -> None:
        """Refused before."""


# The file.


class Batches(NamedTuple):
    """In an attribute: a size of so many times the batch."""

    times: int


class Value(str):
    """What a node takes, by its name; "" where there is nothing."""

    array: Array  # the example's numbers
    constant = False


class _Writer:
    """The nodes and constants of a file so far."""

    def __init__(
        self, onnx: Any, net: Module, traces: tuple[_Trace, _Trace], batch_dim: "int | None"
    ) -> None:
        self.onnx = onnx
        self.first, self.second = traces
        self.batch_dim = batch_dim
        self.nodes: list[Any] = []
        self.constants: dict[Any, Any] = {}
        state = net._named(("_parameters", "_buffers"))
        self._state = {id(t.data): name for name, t, _ in state}
        self._names: list[str] = []  # of values
        self._batch = ""

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and give the name of its result."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, numbers: Any, dtype: Any = None) -> str:
        array = np.array(numbers, dtype, order="C")
        key = self._state.get(id(numbers)) or (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = key if isinstance(key, str) else f"constant_{len(self.constants)}"
            self.constants[key] = self.onnx.numpy_helper.from_array(array, name)
        return self.constants[key].name

    def sizes(self, shape: "Sequence[int | Batches]") -> str:
        """A shape, which may grow with the batch."""
        if Batches not in map(type, shape):
            return self.constant(shape, np.int64)
        if not self._batch:
            end = (self.batch_dim or 0) + 1
            self._batch = self.node("Shape", self._names[0], start=end - 1, end=end)
        parts = [
            self.node("Mul", self._batch, self.constant([n.times]))
            if isinstance(n, Batches)
            else self.constant([n], np.int64)
            for n in shape
        ]
        return self.node("Concat", *parts, axis=0)

    def cast(self, name: str, dtype: Any) -> str:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", name, to=kind)

    def model(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        make, first, second = self.onnx.helper, self.first, self.second
        steps, others = ([c.operation for c in trace.calls] for trace in (first, second))
        if steps != others:
            raise ValueError(
                "onnx: the net does something else for other inputs: a file holds one way only."
            )
        self._names += inputs
        for call, other in zip(first.calls, second.calls, strict=True):
            about = call.operation.__name__
            values = [self._value(about, *n) for n in zip(call.inputs, other.inputs, strict=True)]
            attrs = self._merged(about, call.attrs, other.attrs)
            if _grows(attrs) and call.operation not in (ops.reshape, ops.expand):
                raise ValueError(
                    f"onnx: {about} with {call.attrs} would grow with the batch, and cannot."
                )
            y = first.values[len(self._names)]
            self._names.append(NODES[call.operation](self, y, *values, **attrs))
        results = []
        for name, *numbers in zip(outputs, first.outputs, second.outputs, strict=True):
            value = self._value("the output", *numbers)
            self.nodes.append(make.make_node("Identity", [value], [name], name))
            results.append(self._info(name, *numbers))
        graph = make.make_graph(
            self.nodes,
            "tinytorch",
            [self._info(name, i, i) for i, name in enumerate(inputs)],
            results,
            list(self.constants.values()),
        )
        opsets = [make.make_opsetid("", OPSET)]
        return make.make_model(
            graph, producer_name="tinytorch", ir_version=_IR, opset_imports=opsets
        )

    def _info(self, name: str, a: "int | Array", b: "int | Array") -> Any:
        """The type and the shape of an input or output."""
        array = self.first.values[a] if isinstance(a, int) else a
        other = self.second.values[b] if isinstance(b, int) else b
        sizes = self._merged(name, array.shape, other.shape)
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        shape = [n if isinstance(n, int) else "batch" if n.times == 1 else None for n in sizes]
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def _value(self, about: str, a: "int | Array | None", b: "int | Array | None") -> Value:
        if a is None:
            return Value()
        if isinstance(a, int):
            if a != b:
                raise ValueError(f"onnx: {about} takes something else for other inputs.")
            value = Value(self._names[a])
            value.array = self.first.values[a]
            return value
        assert isinstance(b, np.ndarray)
        # What Python made for this batch, such as zeros for a first state, may grow with it.
        sizes = self._merged(about, a.shape, b.shape)
        grows = _grows(sizes)
        one = tuple([slice(1) if isinstance(n, Batches) else slice(None) for n in sizes])
        if not (
            _same(a[one], b[one]) and (not grows or _same(a, np.broadcast_to(a[one], a.shape)))
        ):
            raise ValueError(
                f"onnx: {about} takes numbers that the net's own Python made of the inputs: use "
                "operations on tensors, or the file would hold the example's numbers."
            )
        grown = self.node("Expand", self.constant(a[one]), self.sizes(sizes)) if grows else ""
        value = Value(grown or self.constant(a))
        value.array, value.constant = a, not grows
        return value

    def _merged(self, about: str, a: Any, b: Any) -> Any:
        """An attribute or a shape of both runs, with `Batches` where it grows."""
        if isinstance(a, dict):
            return {name: self._merged(about, a[name], b[name]) for name in a}
        if isinstance(a, (tuple, list)) and len(a) == len(b):
            return tuple([self._merged(about, *pair) for pair in zip(a, b, strict=True)])
        if type(a) is type(b) and a == b:
            return a
        if isinstance(a, int) and isinstance(b, int) and self.batch_dim is not None:
            batch, more = (t.values[0].shape[self.batch_dim] for t in (self.first, self.second))
            if a * more == b * batch:  # `more` is batch + 1, so it divides b
                return Batches(a // batch)
        raise ValueError(
            f"onnx: {about} has to do with {a} here and with {b} for other inputs: a file holds "
            "sizes that are fixed, or a multiple of the batch."
        )


def _grows(value: Any) -> bool:
    if isinstance(value, Batches):
        return True
    parts = value.values() if isinstance(value, dict) else value
    return isinstance(value, (dict, tuple)) and any(map(_grows, parts))


def _same(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


# What each operation is in ONNX: from the file, an example of the result, and the operation's own
# inputs and attrs, to the name of the result.

Write = Callable[..., str]


def _as(kind: str, **attributes: Any) -> Write:
    """One node that takes the same inputs."""
    return lambda w, y, *inputs: w.node(kind, *inputs, **attributes)


def _of_ints(kind: str, others: str) -> Write:
    """One node for bools, another for integers."""
    return lambda w, y, *inputs: w.node(kind if y.dtype == bool else others, *inputs)


def _but_bools(kind: str) -> Write:
    """A comparison, which is not there for bools."""

    def write(w: _Writer, y: Array, a: Value, b: Value) -> str:
        is_bool = a.array.dtype == bool
        return w.node(kind, *[w.cast(x, np.int32) if is_bool else x for x in (a, b)])

    return write


def _bools(kind: str) -> Write:
    """One node that takes bools."""

    def write(w: _Writer, y: Array, *inputs: Value) -> str:
        return w.node(kind, *[x if x.array.dtype == bool else w.cast(x, bool) for x in inputs])

    return write


def _reduce(kind: str) -> Write:
    def write(w: _Writer, y: Array, x: Value, *, dims: tuple[int, ...], keepdim: bool) -> str:
        given: str = x
        if x.array.dtype != y.dtype:  # a sum of few bits, or a question
            given = w.cast(w.cast(x, bool) if y.dtype == bool else x, np.int64)
        elif y.dtype == bool:
            given = w.cast(x, np.int64)
        whole = w.node(kind, given, w.constant(dims, np.int64), keepdims=keepdim)
        return w.cast(whole, bool) if y.dtype == bool else whole

    return write


def _best(kind: str) -> Write:
    def write(w: _Writer, y: Array, x: Value, *, dim: int | None, keepdim: bool) -> str:
        if dim is None:
            whole = w.node(kind, w.node("Reshape", x, w.constant([-1])), axis=0, keepdims=0)
            return w.node("Reshape", whole, w.constant(y.shape, np.int64))
        return w.node(kind, x, axis=dim, keepdims=keepdim)

    return write


def _scalar(w: _Writer, y: Array, number: float) -> str:
    return w.constant(number, y.dtype)


def _clip(
    w: _Writer, y: Array, x: Value, *, low: float | None = None, high: float | None = None
) -> str:
    return w.node("Clip", x, *["" if n is None else _scalar(w, y, n) for n in (low, high)])


def _remainder(w: _Writer, y: Array, a: str, b: str) -> str:
    if y.dtype.kind != "f":
        return w.node("Mod", a, b)
    return w.node("Sub", a, w.node("Mul", b, w.node("Floor", w.node("Div", a, b))))


def _floor_divide(w: _Writer, y: Array, a: str, b: str) -> str:
    if y.dtype.kind == "f":
        return w.node("Floor", w.node("Div", a, b))
    return w.node("Div", w.node("Sub", a, w.node("Mod", a, b)), b)


def _round(w: _Writer, y: Array, x: str, *, decimals: int) -> str:
    if not decimals:
        return w.node("Round", x)
    scale = _scalar(w, y, 10.0**decimals)
    return w.node("Div", w.node("Round", w.node("Mul", x, scale)), scale)


def _softplus(w: _Writer, y: Array, x: str, *, beta: float, threshold: float) -> str:
    scaled = w.node("Mul", x, _scalar(w, y, beta))
    curve = w.node("Div", w.node("Softplus", scaled), _scalar(w, y, beta))
    return w.node("Where", w.node("Greater", scaled, _scalar(w, y, threshold)), x, curve)


def _reshape(w: _Writer, y: Array, x: str, *, shape: "tuple[int | Batches, ...]") -> str:
    sizes = [n.times if isinstance(n, Batches) else n for n in shape]
    if _grows(shape) and sum(isinstance(n, Batches) for n in shape) == 1 and 0 not in sizes:
        shape = tuple([-1 if isinstance(n, Batches) else n for n in shape])
    return w.node("Reshape", x, w.sizes(shape), allowzero=int(0 in shape))


def _pad(w: _Writer, y: Array, x: str, *, widths: Sequence[tuple[int, int]], value: float) -> str:
    before, after = zip(*widths, strict=True)
    return w.node("Pad", x, w.constant([*before, *after], np.int64), _scalar(w, y, value))


_END = np.iinfo(np.int64).max


def _slice(w: _Writer, x: str, slices: dict[int, slice]) -> str:
    """x with some of its dimensions cut."""
    steps = [s.step or 1 for s in slices.values()]
    starts = [
        (_END if step < 0 else 0) if s.start is None else s.start
        for s, step in zip(slices.values(), steps, strict=True)
    ]
    stops = [
        (-_END if step < 0 else _END) if s.stop is None else s.stop
        for s, step in zip(slices.values(), steps, strict=True)
    ]
    limits = [w.constant(n, np.int64) for n in (starts, stops, [*slices], steps)]
    return w.node("Slice", x, *limits)


def _flip(w: _Writer, y: Array, x: str, *, dims: tuple[int, ...]) -> str:
    return _slice(w, x, {d: slice(None, None, -1) for d in dims}) if dims else x


def _roll(w: _Writer, y: Array, x: str, *, shifts: tuple[int, ...], dims: tuple[int, ...]) -> str:
    for shift, d in zip(shifts, dims, strict=True):
        ends = slice(-shift, None), slice(None, -shift)
        x = w.node("Concat", *[_slice(w, x, {d: end}) for end in ends], axis=d) if shift else x
    return x


def _index(w: _Writer, y: Array, x: Value, *arrays: Value, key: tuple[Any, ...]) -> str:
    named = sum(k is not None and k is not Ellipsis for k in key)
    if Ellipsis not in key:
        key = (*key, Ellipsis)
    at = key.index(Ellipsis)
    key = (*key[:at], *[slice(None)] * (x.array.ndim - named), *key[at + 1 :])
    if len(arrays) > 1 or (arrays and any(isinstance(k, int) for k in key)):
        raise ValueError(f"onnx: an index of {key} cannot be exported: take one part at a time.")
    slices: dict[int, slice] = {}
    dropped, new, gathered = [], [], 0
    rank, places = 0, 0  # dimensions of x so far, and of the result
    for k in key:
        if k is None:
            new.append(places)
        elif isinstance(k, int):
            slices[rank] = slice(k, k + 1 or None)
            dropped.append(rank)
        elif k is ops.INDEX:
            gathered = rank
        elif k != slice(None):
            slices[rank] = k
        rank += k is not None
        places += arrays[0].array.ndim if k is ops.INDEX else not isinstance(k, int)
    result: str = _slice(w, x, slices) if slices else x
    if arrays:
        result = w.node("Gather", result, arrays[0], axis=gathered)
    if dropped:
        result = w.node("Squeeze", result, w.constant(dropped, np.int64))
    return w.node("Unsqueeze", result, w.constant(new, np.int64)) if new else result


def _variance(
    w: _Writer, y: Array, x: Value, *, dims: tuple[int, ...], correction: float, keepdim: bool
) -> str:
    """The variance."""
    axes = w.constant(dims, np.int64)
    centred = w.node("Sub", x, w.node("ReduceMean", x, axes, keepdims=1))
    total = w.node("ReduceSumSquare", centred, axes, keepdims=keepdim)
    sizes = w.node("Gather", w.node("Shape", x), axes)
    count = w.cast(w.node("ReduceProd", sizes, keepdims=0), y.dtype)
    less = w.node("Sub", count, _scalar(w, y, correction))
    return w.node("Div", total, w.node("Max", less, _scalar(w, y, 0)))


def _einsum(w: _Writer, y: Array, *arrays: str, inputs: tuple[str, ...], output: str) -> str:
    return w.node("Einsum", *arrays, equation=f"{','.join(inputs)}->{output}")


def _linear(w: _Writer, y: Array, x: Value, weight: Value, bias: Value) -> str:
    if x.array.ndim == 2:
        return w.node("Gemm", x, weight, *[bias] * bool(bias), transB=1)
    if weight.constant:
        turned = w.constant(weight.array.T)
    else:
        turned = w.node("Transpose", weight, perm=(1, 0))
    product = w.node("MatMul", x, turned)
    return w.node("Add", product, bias) if bias else product


def _conv(
    w: _Writer, y: Array, x: str, weight: str, bias: str, *, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], groups: int,
) -> str:  # fmt: skip
    return w.node(
        "Conv", x, weight, *[bias] * bool(bias), strides=stride, pads=[*padding, *padding],
        dilations=dilation, group=groups,
    )  # fmt: skip


def _pool(op: str, **attributes: Any) -> Write:
    def write(
        w: _Writer, y: Array, x: str, *, kernel: Sequence[int], stride: Sequence[int],
        padding: Sequence[int],
    ) -> str:  # fmt: skip
        return w.node(
            op, x, kernel_shape=kernel, strides=stride, pads=[*padding, *padding], **attributes
        )

    return write


def _adaptive_avg_pool(w: _Writer, y: Array, x: Value, *, size: tuple[int | None, ...]) -> str:
    before, after = x.array.shape[2:], y.shape[2:]
    if not any(n % m for n, m in zip(before, after, strict=True)):
        kernel = [n // m for n, m in zip(before, after, strict=True)]
        return w.node("AveragePool", x, kernel_shape=kernel, strides=kernel)
    result: str = x
    for dim, parts in enumerate(shapes.parts("adaptive_avg_pool", x.array.shape, size)):
        means = np.zeros((len(parts), before[dim]), y.dtype)
        for row, (start, end) in zip(means, parts, strict=True):
            row[start:end] = 1 / (end - start)
        last = dim == len(before) - 1
        factors = (result, w.constant(means.T)) if last else (w.constant(means), result)
        result = w.node("MatMul", *factors)
    return result


def _batch_norm(
    w: _Writer, y: Array, x: Value, weight: Value, bias: Value, mean: Value, var: Value, _: Value,
    *, training: bool, momentum: float | None, eps: float,
) -> str:  # fmt: skip
    weight_name = weight or w.constant(np.ones(y.shape[1], y.dtype))
    bias_name = bias or w.constant(np.zeros(y.shape[1], y.dtype))
    return w.node("BatchNormalization", x, weight_name, bias_name, mean, var, epsilon=eps)


def _layer_norm(
    w: _Writer, y: Array, x: Value, weight: Value, bias: Value, *, dims: int, eps: float
) -> str:
    weight_name = weight or w.constant(np.ones(y.shape[y.ndim - dims :], y.dtype))
    given = (weight_name, *[bias] * bool(bias))
    return w.node("LayerNormalization", x, *given, axis=-dims, epsilon=eps)


NODES: dict[Operation, Write] = {
    ops.add: _as("Add"),
    ops.sub: _as("Sub"),
    ops.mul: _as("Mul"),
    ops.div: _as("Div"),
    ops.pow: _as("Pow"),
    ops.remainder: _remainder,
    ops.floor_divide: _floor_divide,
    ops.maximum: _as("Max"),
    ops.minimum: _as("Min"),
    ops.neg: _as("Neg"),
    ops.abs: _as("Abs"),
    ops.sign: _as("Sign"),
    ops.floor: _as("Floor"),
    ops.ceil: _as("Ceil"),
    ops.trunc: lambda w, y, x: w.node("Mul", w.node("Sign", x), w.node("Floor", w.node("Abs", x))),
    ops.round: _round,
    ops.exp: _as("Exp"),
    ops.expm1: lambda w, y, x: w.node("Sub", w.node("Exp", x), _scalar(w, y, 1)),
    ops.log: _as("Log"),
    ops.log1p: lambda w, y, x: w.node("Log", w.node("Add", x, _scalar(w, y, 1))),
    ops.sqrt: _as("Sqrt"),
    ops.rsqrt: lambda w, y, x: w.node("Reciprocal", w.node("Sqrt", x)),
    ops.square: lambda w, y, x: w.node("Mul", x, x),
    ops.reciprocal: _as("Reciprocal"),
    ops.sin: _as("Sin"),
    ops.cos: _as("Cos"),
    ops.tanh: _as("Tanh"),
    ops.sigmoid: _as("Sigmoid"),
    ops.relu: _as("Relu"),
    ops.clamp: _clip,
    ops.where: _as("Where"),
    ops.eq: _as("Equal"),
    ops.ne: lambda w, y, a, b: w.node("Not", w.node("Equal", a, b)),
    ops.lt: _but_bools("Less"),
    ops.le: _but_bools("LessOrEqual"),
    ops.gt: _but_bools("Greater"),
    ops.ge: _but_bools("GreaterOrEqual"),
    ops.bitwise_and: _of_ints("And", "BitwiseAnd"),
    ops.bitwise_or: _of_ints("Or", "BitwiseOr"),
    ops.bitwise_xor: _of_ints("Xor", "BitwiseXor"),
    ops.bitwise_not: _of_ints("Not", "BitwiseNot"),
    ops.logical_and: _bools("And"),
    ops.logical_or: _bools("Or"),
    ops.logical_xor: _bools("Xor"),
    ops.logical_not: _bools("Not"),
    ops.isnan: _as("IsNaN"),
    ops.isinf: _as("IsInf"),
    ops.clone: _as("Identity"),
    ops.to: lambda w, y, x, *, dtype: w.cast(x, dtype),
    ops.reshape: _reshape,
    ops.permute: lambda w, y, x, *, dims: w.node("Transpose", x, perm=dims),
    ops.expand: lambda w, y, x, *, shape: w.node("Expand", x, w.sizes(shape)),
    ops.pad: _pad,
    ops.flip: _flip,
    ops.roll: _roll,
    ops.tril: lambda w, y, x, *, diagonal: w.node("Trilu", x, w.constant(diagonal), upper=0),
    ops.triu: lambda w, y, x, *, diagonal: w.node("Trilu", x, w.constant(diagonal), upper=1),
    ops.cat: lambda w, y, *inputs, dim: w.node("Concat", *inputs, axis=dim),
    ops.index: _index,
    ops.gather: lambda w, y, x, index, *, dim: w.node("GatherElements", x, index, axis=dim),
    ops.sum: _reduce("ReduceSum"),
    ops.mean: _reduce("ReduceMean"),
    ops.prod: _reduce("ReduceProd"),
    ops.amax: _reduce("ReduceMax"),
    ops.amin: _reduce("ReduceMin"),
    ops.any: _reduce("ReduceMax"),
    ops.all: _reduce("ReduceMin"),
    ops.logsumexp: _reduce("ReduceLogSumExp"),
    ops.norm: _reduce("ReduceL2"),
    ops.var: _variance,
    ops.std: lambda w, y, x, **attrs: w.node("Sqrt", _variance(w, y, x, **attrs)),
    ops.argmax: _best("ArgMax"),
    ops.argmin: _best("ArgMin"),
    ops.cumsum: lambda w, y, x, *, dim: w.node("CumSum", x, w.constant(dim)),
    ops.matmul: _as("MatMul"),
    ops.einsum: _einsum,
    ops.relu6: lambda w, y, x: _clip(w, y, x, low=0, high=6),
    ops.leaky_relu: lambda w, y, x, *, negative_slope: w.node("LeakyRelu", x, alpha=negative_slope),
    ops.elu: lambda w, y, x, *, alpha: w.node("Elu", x, alpha=alpha),
    ops.silu: lambda w, y, x: w.node("Mul", x, w.node("Sigmoid", x)),
    ops.hardsigmoid: _as("HardSigmoid", alpha=1 / 6, beta=0.5),
    ops.hardswish: _as("HardSwish"),
    ops.gelu: lambda w, y, x, *, approximate: w.node("Gelu", x, approximate=approximate),
    ops.softplus: _softplus,
    ops.logsigmoid: lambda w, y, x: w.node("Neg", w.node("Softplus", w.node("Neg", x))),
    ops.linear: _linear,
    ops.conv: _conv,
    ops.max_pool: _pool("MaxPool"),
    ops.avg_pool: _pool("AveragePool", count_include_pad=1),
    ops.adaptive_avg_pool: _adaptive_avg_pool,
    ops.batch_norm: _batch_norm,
    ops.layer_norm: _layer_norm,
    ops.softmax: lambda w, y, x, *, dim: w.node("Softmax", x, axis=dim),
    ops.log_softmax: lambda w, y, x, *, dim: w.node("LogSoftmax", x, axis=dim),
    ops.embedding: lambda w, y, weight, index, *, padding_idx=None: w.node("Gather", weight, index),
}
