"""Layers, written once against a Tensor's operators and methods: PyTorch's names and shapes.

Signals are (N, C, L) and images (N, C, H, W). The laptop runs the same layers on its own Tensor by
setting `Module.Tensor` and `Module.Parameter`.
"""

from collections import OrderedDict, namedtuple

from tinytorch_core import shapes
from tinytorch_core import tensor as floats

IncompatibleKeys = namedtuple("IncompatibleKeys", ("missing_keys", "unexpected_keys"))


class Parameter(floats.Tensor):
    """A Tensor that a Module lists among its parameters."""

    def __init__(self, tensor):
        super().__init__(tensor.data, tensor.shape)


class Module:
    """A network or a part of one: set parameters and modules as attributes, write `forward`."""

    Tensor = floats.Tensor  # what buffers are made of
    Parameter = Parameter

    def __init__(self):
        self.training = True
        # The names of the attributes that count, in order: a board's dicts keep none.
        self._parameters = []
        self._buffers = []
        self._modules = []
        self._unsaved = []  # buffers that are not in the state

    def __setattr__(self, name, value):
        """Raises TypeError for something else in the place of a parameter or a module."""
        if isinstance(value, Module):
            self._note("_modules", name)
        elif isinstance(value, self.Parameter):
            self._note("_parameters", name)
        elif value is not None:
            if name in getattr(self, "_parameters", ()):
                raise TypeError(f"{name} is a parameter: set a Parameter, or None.")
            if name in getattr(self, "_modules", ()):
                raise TypeError(f"{name} is a module: set a Module, or None.")
        super().__setattr__(name, value)

    def __delattr__(self, name):
        self._forget(name)
        super().__delattr__(name)

    def _note(self, kind, name):
        names = getattr(self, kind, None)
        if names is None:
            raise AttributeError(f"Call super().__init__() before you set {name}.")
        if name not in names:
            self._forget(name)
            names.append(name)

    def _forget(self, name):
        for names in (self._parameters, self._buffers, self._modules, self._unsaved):
            if name in names:
                names.remove(name)

    def _register(self, kind, name, value):
        """Raises KeyError for a name that is taken, or that does not fit into dotted names."""
        if not name or "." in name:
            raise KeyError(f"{name!r} is no name for an attribute.")
        if hasattr(self, name) and name not in getattr(self, kind):
            raise KeyError(f"attribute {name!r} already exists.")
        self._note(kind, name)
        setattr(self, name, value)

    def register_buffer(self, name, tensor, persistent=True):
        """A tensor, or None, that is not trained; if persistent it is saved with the parameters."""
        self._register("_buffers", name, tensor)
        if not persistent:
            self._unsaved.append(name)

    def register_parameter(self, name, parameter):
        """A Parameter, or None for one that may be set later."""
        self._register("_parameters", name, parameter)

    def add_module(self, name, module):
        self._register("_modules", name, module)

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} has no forward.")

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def named_children(self):
        """Each module directly below this one, once."""
        seen = set()
        for name in self._modules:
            child = getattr(self, name)
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self):
        for _, child in self.named_children():
            yield child

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """This module and all below it, with dotted names; it comes first, before its children.

        A module that stands in several places comes once, or without remove_duplicate for each.
        memo: a set of the ids of modules to leave out.
        """
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, self
        for name in self._modules:
            child = getattr(self, name)
            if child is not None:
                path = prefix + "." + name if prefix else name
                yield from child.named_modules(memo, path, remove_duplicate)

    def modules(self):
        for _, module in self.named_modules():
            yield module

    def get_submodule(self, target):
        """The module of a dotted name; "" is this one. Raises AttributeError if there is none."""
        module = self
        for name in target.split(".") if target else ():
            if name not in module._modules:
                raise AttributeError(f"{type(module).__name__} has no module {name!r}.")
            module = getattr(module, name)
        return module

    def apply(self, fn):
        """Call fn on every module below, then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _named(self, kinds, prefix="", recurse=True):
        """(name, tensor, its module) of all places, also of what stands in several."""
        modules = self.named_modules(None, prefix, False) if recurse else ((prefix, self),)
        for path, module in modules:
            for kind in kinds:
                for name in getattr(module, kind):
                    tensor = getattr(module, name)
                    if tensor is not None:
                        yield path + "." + name if path else name, tensor, module

    def _named_once(self, kinds, prefix, recurse):
        seen = set()
        for name, tensor, _ in self._named(kinds, prefix, recurse):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def named_parameters(self, prefix="", recurse=True):
        """Each parameter once, also where several modules share it: an optimizer steps it once."""
        return self._named_once(("_parameters",), prefix, recurse)

    def parameters(self, recurse=True):
        for _, parameter in self.named_parameters("", recurse):
            yield parameter

    def named_buffers(self, prefix="", recurse=True):
        return self._named_once(("_buffers",), prefix, recurse)

    def buffers(self, recurse=True):
        for _, buffer in self.named_buffers("", recurse):
            yield buffer

    def state_dict(self):
        """Name -> tensor of all that is saved, in order; they share the module's data."""
        return OrderedDict([
            (name, t.detach())
            for name, t, module in self._named(("_parameters", "_buffers"))
            if name.split(".")[-1] not in module._unsaved
        ])  # fmt: skip

    def load_state_dict(self, state, strict=True):
        """Copy the tensors of `state` into this module's; if strict, the names must be the same.

        Returns the missing and the unexpected names. Raises ValueError, before anything is
        changed, for names or shapes that differ.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        if strict and (missing or unexpected):
            raise ValueError(
                f"load_state_dict: missing {', '.join(missing) or 'nothing'}, "
                f"unexpected {', '.join(unexpected) or 'nothing'}."
            )
        common = [(name, tensor) for name, tensor in own.items() if name in state]
        for name, tensor in common:
            if tuple(state[name].shape) != tensor.shape:
                raise ValueError(
                    f"load_state_dict: {name} has shape {tensor.shape} here and "
                    f"{tuple(state[name].shape)} in the state."
                )
        for name, tensor in common:
            tensor.copy_(state[name])
        return IncompatibleKeys(missing, unexpected)

    def train(self, mode=True):
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self):
        return self.train(False)

    def extra_repr(self):
        """What the constructor was given, for the printed form."""
        return ""

    def _rows(self):
        """The children of the printed form, as (name, text)."""
        return [(name, repr(getattr(self, name))) for name in self._modules]

    def __repr__(self):
        extra, rows = self.extra_repr(), self._rows()
        name = type(self).__name__
        if not rows and "\n" not in extra:
            return f"{name}({extra})"
        lines = extra.split("\n") if extra else []
        lines += [f"({label}): {text}".replace("\n", "\n  ") for label, text in rows]
        return name + "(\n  " + "\n  ".join(lines) + "\n)"

    def _uniform(self, shape, fan_in):
        """A parameter from U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's start for these layers."""
        bound = fan_in**-0.5 if fan_in else 0.0
        return self.Parameter(self.Tensor.zeros(shape).uniform_(-bound, bound))

    def _counter(self):
        """A buffer that counts."""
        return self.Tensor.zeros(())


class Identity(Module):
    """Gives its input back, whatever it was made with."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def forward(self, x):
        return x


# Containers.


class _Numbered(Module):
    """Items one after another, named by their places."""

    _kind = "_modules"

    def __init__(self, items=()):
        super().__init__()
        self.extend(items or ())

    def _names(self):
        return getattr(self, self._kind)

    def __len__(self):
        return len(self._names())

    def __iter__(self):
        return iter([getattr(self, name) for name in self._names()])

    def _name(self, index):
        names = self._names()
        if not -len(names) <= index < len(names):
            raise IndexError(f"{type(self).__name__}: no item {index} among {len(names)}.")
        return names[index]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return getattr(self, self._name(index))

    def __setitem__(self, index, item):
        setattr(self, self._name(index), item)

    def append(self, item):
        self._register(self._kind, str(len(self)), item)
        return self

    def extend(self, items):
        for item in items:
            self.append(item)
        return self

    def insert(self, index, item):
        items = list(self)
        items.insert(index, item)
        self.append(items[-1])
        for i, item in enumerate(items[:-1]):
            self[i] = item
        return self


class Sequential(_Numbered):
    """Layers one after another; given an OrderedDict, by its names."""

    def __init__(self, *layers):
        named = len(layers) == 1 and isinstance(layers[0], OrderedDict)
        super().__init__(() if named else layers)
        for name, layer in layers[0].items() if named else ():
            self.add_module(name, layer)

    def __getitem__(self, index):
        if isinstance(index, slice):
            pairs = [(name, getattr(self, name)) for name in self._modules[index]]
            return type(self)(OrderedDict(pairs))
        return super().__getitem__(index)

    def forward(self, x):
        for name in self._modules:
            x = getattr(self, name)(x)
        return x


class ModuleList(_Numbered):
    def _rows(self):
        """Equal neighbours are counted."""
        runs: list = []  # [first, last, text]
        for i, item in enumerate(self):
            text = repr(item)
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        return [
            (str(i), text) if i == j else (f"{i}-{j}", f"{j - i + 1} x {text}")
            for i, j, text in runs
        ]


class ParameterList(_Numbered):
    _kind = "_parameters"

    def _register(self, kind, name, value):
        is_parameter = isinstance(value, self.Parameter)
        super()._register(kind, name, value if is_parameter else self.Parameter(value))


class ModuleDict(Module):
    """Modules by name."""

    def __init__(self, modules=None):
        super().__init__()
        self.update(modules or {})

    def update(self, modules):
        """modules: a dict, or pairs of names and modules."""
        for name, module in modules.items() if hasattr(modules, "items") else modules:
            self.add_module(name, module)

    def __getitem__(self, name):
        if name not in self._modules:
            raise KeyError(name)
        return getattr(self, name)

    def __setitem__(self, name, module):
        self.add_module(name, module)

    def __delitem__(self, name):
        self[name]
        delattr(self, name)

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, name):
        return name in self._modules

    def keys(self):
        return list(self._modules)

    def values(self):
        return [getattr(self, name) for name in self._modules]

    def items(self):
        return [(name, getattr(self, name)) for name in self._modules]


# Layers with weights.


class Linear(Module):
    """(..., in_features) -> (..., out_features)."""

    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = self._uniform((out_features, in_features), in_features)
        self.bias = self._uniform((out_features,), in_features) if bias else None

    def forward(self, x):
        return x.linear(self.weight, self.bias)

    def extra_repr(self):
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class _Conv(Module):
    """Filters that slide over signals or images; groups=in_channels makes them depthwise.

    padding: numbers, "valid" or "same".
    """

    dims = 0

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1,
        bias=True,
    ):  # fmt: skip
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{type(self).__name__}: {in_channels} and {out_channels} channels do not "
                f"divide into {groups} groups."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = shapes.ntuple(kernel_size, self.dims)
        self.stride = shapes.ntuple(stride, self.dims)
        self.dilation = shapes.ntuple(dilation, self.dims)
        self.padding = padding if isinstance(padding, str) else shapes.ntuple(padding, self.dims)
        shapes.padding(type(self).__name__, padding, self.kernel_size, self.stride, self.dilation)
        self.groups = groups
        shape = (out_channels, in_channels // groups) + self.kernel_size
        fan_in = shapes.size(shape[1:])
        self.weight = self._uniform(shape, fan_in)
        self.bias = self._uniform((out_channels,), fan_in) if bias else None

    def extra_repr(self):
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != (0,) * self.dims:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.dims:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text + ("" if self.bias is not None else ", bias=False")


class Conv1d(_Conv):
    """(N, in_channels, L) -> (N, out_channels, L')."""

    dims = 1

    def forward(self, x):
        return x.conv1d(
            self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Conv2d(_Conv):
    """(N, in_channels, H, W) -> (N, out_channels, H', W')."""

    dims = 2

    def forward(self, x):
        return x.conv2d(
            self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class _BatchNorm(Module):
    ndims: tuple = ()
    running_mean: floats.Tensor
    running_var: floats.Tensor
    num_batches_tracked: floats.Tensor

    def __init__(
        self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, *,
        bias=True,
    ):  # fmt: skip
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (num_features,)
        zeros, ones = self.Tensor.zeros, self.Tensor.ones
        tracked = track_running_stats
        self.weight = self.Parameter(ones(shape)) if affine else None
        self.bias = self.Parameter(zeros(shape)) if affine and bias else None
        self.register_buffer("running_mean", zeros(shape) if tracked else None)
        self.register_buffer("running_var", ones(shape) if tracked else None)
        self.register_buffer("num_batches_tracked", self._counter() if tracked else None)

    def forward(self, x):
        if len(x.shape) not in self.ndims or x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input {x.shape} does not have {self.num_features} "
                f"channels as the second of {' or '.join([str(n) for n in self.ndims])} dimensions."
            )
        over_batch = self.training or self.running_mean is None
        if over_batch and shapes.size(x.shape) == self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input {x.shape} has one value a channel, and no "
                "variance to train on: use a larger batch, or eval()."
            )
        return x.batch_norm(
            self.running_mean, self.running_var, self.weight, self.bias, over_batch,
            self.momentum, self.eps, self.num_batches_tracked,
        )  # fmt: skip

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Over the batch of (N, C) or (N, C, L), for each channel."""

    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Over the batch of (N, C, H, W), for each channel."""

    ndims = (4,)


class LayerNorm(Module):
    """Normalises each sample over its last dimensions, of normalized_shape."""

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True):
        super().__init__()
        self.normalized_shape = shapes.given((normalized_shape,))
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        shape, bias = self.normalized_shape, elementwise_affine and bias
        self.weight = self.Parameter(self.Tensor.ones(shape)) if elementwise_affine else None
        self.bias = self.Parameter(self.Tensor.zeros(shape)) if bias else None

    def forward(self, x):
        return x.layer_norm(self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class Embedding(Module):
    """Numbers from 0 to num_embeddings - 1, of any shape -> (*shape, embedding_dim).

    padding_idx: the number whose row starts at zero and is not trained.
    """

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None):
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx {padding_idx} is not among {num_embeddings}.")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        weight = self.Tensor.zeros((num_embeddings, embedding_dim)).normal_()
        if padding_idx is not None:
            start = self.padding_idx * embedding_dim
            flat = weight.reshape(-1)  # the same data
            flat.data[start : start + embedding_dim] = self.Tensor.zeros((embedding_dim,)).data
        self.weight = self.Parameter(weight)

    def forward(self, x):
        return x.embedding(self.weight, self.padding_idx)

    def extra_repr(self):
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


# Activations.


class _Activation(Module):
    """inplace: taken as in PyTorch; the result is a new tensor all the same."""

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace

    def extra_repr(self):
        return "inplace=True" if self.inplace else ""


class ReLU(_Activation):
    def forward(self, x):
        return x.relu()


class ReLU6(_Activation):
    def forward(self, x):
        return x.relu6()


class SiLU(_Activation):
    def forward(self, x):
        return x.silu()


class Hardswish(_Activation):
    def forward(self, x):
        return x.hardswish()


class Hardsigmoid(_Activation):
    def forward(self, x):
        return x.hardsigmoid()


class LeakyReLU(_Activation):
    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, x):
        return x.leaky_relu(self.negative_slope)

    def extra_repr(self):
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(_Activation):
    def __init__(self, alpha=1.0, inplace=False):
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, x):
        return x.elu(self.alpha)

    def extra_repr(self):
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class Tanh(Module):
    def forward(self, x):
        return x.tanh()


class Sigmoid(Module):
    def forward(self, x):
        return x.sigmoid()


class GELU(Module):
    """approximate: "none" or "tanh"."""

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, x):
        return x.gelu(self.approximate)

    def extra_repr(self):
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, x):
        return x.softplus(self.beta, self.threshold)

    def extra_repr(self):
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return x.softmax(self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class LogSoftmax(Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return x.log_softmax(self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


# Pooling.


class _Pool(Module):
    dims = 0

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        for value in (kernel_size, self.stride, padding):
            shapes.ntuple(value, self.dims)  # or an error here

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    def extra_repr(self):
        return super().extra_repr() + ", dilation=1, ceil_mode=False"


class MaxPool1d(_MaxPool):
    dims = 1

    def forward(self, x):
        return x.max_pool1d(self.kernel_size, self.stride, self.padding)


class MaxPool2d(_MaxPool):
    dims = 2

    def forward(self, x):
        return x.max_pool2d(self.kernel_size, self.stride, self.padding)


class AvgPool1d(_Pool):
    dims = 1

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__(kernel_size, stride, padding)
        for name in ("kernel_size", "stride", "padding"):
            setattr(self, name, shapes.ntuple(getattr(self, name), 1))  # as PyTorch keeps them

    def forward(self, x):
        return x.avg_pool1d(self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool):
    dims = 2

    def forward(self, x):
        return x.avg_pool2d(self.kernel_size, self.stride, self.padding)


class _AdaptiveAvgPool(Module):
    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def extra_repr(self):
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """(N, C, L) -> (N, C, output_size): means over equal parts."""

    def forward(self, x):
        return x.adaptive_avg_pool1d(self.output_size)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """(N, C, H, W) -> (N, C, *output_size): means over equal parts; None: as many as there are."""

    def forward(self, x):
        return x.adaptive_avg_pool2d(self.output_size)


# Shapes, and chance.


class Flatten(Module):
    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x):
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One dimension as several, of unflattened_size."""

    def __init__(self, dim, unflattened_size):
        super().__init__()
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x):
        dim = shapes.axis("unflatten", self.dim, len(x.shape))
        size = shapes.reshape((x.shape[dim],), self.unflattened_size)
        return x.reshape(x.shape[:dim] + size + x.shape[dim + 1 :])

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Dropout(Module):
    """In training, zeros with probability p and the rest scaled by 1 / (1 - p)."""

    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p={p} is not in [0, 1].")
        self.p = p
        self.inplace = inplace

    def forward(self, x):
        return x.dropout(self.p, self.training)

    def extra_repr(self):
        return f"p={self.p}, inplace={self.inplace}"
