"""Layers, written once against a Tensor's operators and methods: PyTorch's names and shapes.

Signals are (N, C, L) and images (N, C, H, W). The laptop runs the same layers on its own Tensor by
setting `Module.Tensor` and `Module.Parameter`.
"""

from collections import OrderedDict

from tinytorch_core import shapes
from tinytorch_core import tensor as floats


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

    def __setattr__(self, name, value):
        """Raises TypeError for a Tensor in a parameter's place, where it would not be trained."""
        if isinstance(value, Module):
            self._note("_modules", name)
        elif isinstance(value, self.Parameter):
            self._note("_parameters", name)
        elif isinstance(value, self.Tensor) and name in getattr(self, "_parameters", ()):
            raise TypeError(f"{name} is a parameter: set a Parameter, or None.")
        super().__setattr__(name, value)

    def _note(self, kind, name):
        names = getattr(self, kind, None)
        if names is None:
            raise AttributeError(f"Call super().__init__() before you set {name}.")
        if name not in names:
            names.append(name)

    def register_buffer(self, name, tensor):
        """A tensor that is saved with the parameters but not trained."""
        self._note("_buffers", name)
        setattr(self, name, tensor)

    def add_module(self, name, module):
        setattr(self, name, module)

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} has no forward.")

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def named_children(self):
        for name in self._modules:
            child = getattr(self, name)
            if child is not None:
                yield name, child

    def children(self):
        for _, child in self.named_children():
            yield child

    def named_modules(self, prefix=""):
        """This module and all below it, with dotted names; it comes first, before its children.

        A module that stands in several places comes once for each.
        """
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(prefix + "." + name if prefix else name)

    def modules(self):
        for _, module in self.named_modules():
            yield module

    def _named(self, kinds):
        for prefix, module in self.named_modules():
            for kind in kinds:
                for name in getattr(module, kind):
                    tensor = getattr(module, name)
                    if tensor is not None:
                        yield prefix + "." + name if prefix else name, tensor

    def named_parameters(self):
        """Each parameter once, also where several modules share it: an optimizer steps it once."""
        seen = set()
        for name, parameter in self._named(("_parameters",)):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self):
        for _, parameter in self.named_parameters():
            yield parameter

    def named_buffers(self):
        yield from self._named(("_buffers",))

    def buffers(self):
        for _, buffer in self.named_buffers():
            yield buffer

    def state_dict(self):
        """Name -> tensor of all parameters and buffers, in order; they share the module's data."""
        return OrderedDict(
            [(name, t.detach()) for name, t in self._named(("_parameters", "_buffers"))]
        )

    def load_state_dict(self, state):
        """Copy the tensors of `state` into this module's; the names must be the same.

        Raises ValueError, before anything is changed, for names or shapes that differ.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        if missing or unexpected:
            raise ValueError(
                f"load_state_dict: missing {', '.join(missing) or 'nothing'}, "
                f"unexpected {', '.join(unexpected) or 'nothing'}."
            )
        for name, tensor in own.items():
            if tuple(state[name].shape) != tensor.shape:
                raise ValueError(
                    f"load_state_dict: {name} has shape {tensor.shape} here and "
                    f"{tuple(state[name].shape)} in the state."
                )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def train(self, mode=True):
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        return self.train(False)

    def _uniform(self, shape, fan_in):
        """A parameter from U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's start for these layers."""
        bound = fan_in**-0.5
        return self.Parameter(self.Tensor.zeros(shape).uniform_(-bound, bound))


class Sequential(Module):
    def __init__(self, *layers):
        super().__init__()
        for i, layer in enumerate(layers):
            self.add_module(str(i), layer)

    def __iter__(self):
        return self.children()

    def __len__(self):
        return len(self._modules)

    def __getitem__(self, index):
        return getattr(self, self._modules[index])

    def forward(self, x):
        for layer in self:
            x = layer(x)
        return x


class Linear(Module):
    """(..., in_features) -> (..., out_features)."""

    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = self._uniform((out_features, in_features), in_features)
        self.bias = self._uniform((out_features,), in_features) if bias else None

    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class _Conv(Module):
    """Filters that slide over signals or images; groups=in_channels makes them depthwise."""

    dims = 0

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1,
        bias=True,
    ):  # fmt: skip
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{type(self).__name__}: {in_channels} and {out_channels} channels do not "
                f"divide into {groups} groups."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = shapes.spread(kernel_size, self.dims)
        self.stride = shapes.spread(stride, self.dims)
        self.padding = shapes.spread(padding, self.dims)
        self.dilation = shapes.spread(dilation, self.dims)
        self.groups = groups
        shape = (out_channels, in_channels // groups) + self.kernel_size
        fan_in = shapes.size(shape[1:])
        self.weight = self._uniform(shape, fan_in)
        self.bias = self._uniform((out_channels,), fan_in) if bias else None


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

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.weight = self.Parameter(self.Tensor.ones((num_features,)))
        self.bias = self.Parameter(self.Tensor.zeros((num_features,)))
        self.register_buffer("running_mean", self.Tensor.zeros((num_features,)))
        self.register_buffer("running_var", self.Tensor.ones((num_features,)))
        self.register_buffer("num_batches_tracked", self.Tensor.zeros(()))

    def forward(self, x):
        if len(x.shape) not in self.ndims or x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input {x.shape} does not have {self.num_features} "
                f"channels as the second of {' or '.join([str(n) for n in self.ndims])} dimensions."
            )
        if self.training:
            if shapes.size(x.shape) == self.num_features:
                raise ValueError(
                    f"{type(self).__name__}: input {x.shape} has one value a channel, and no "
                    "variance to train on: use a larger batch, or eval()."
                )
            self.num_batches_tracked.copy_(self.num_batches_tracked + 1)
        return x.batch_norm(
            self.running_mean, self.running_var, self.weight, self.bias, self.training,
            self.momentum, self.eps,
        )  # fmt: skip


class BatchNorm1d(_BatchNorm):
    """Over the batch of (N, C) or (N, C, L), for each channel."""

    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Over the batch of (N, C, H, W), for each channel."""

    ndims = (4,)


class ReLU(Module):
    def forward(self, x):
        return x.relu()


class _Pool(Module):
    dims = 0

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        self.kernel_size = shapes.spread(kernel_size, self.dims)
        self.stride = self.kernel_size if stride is None else shapes.spread(stride, self.dims)
        self.padding = shapes.spread(padding, self.dims)


class MaxPool1d(_Pool):
    dims = 1

    def forward(self, x):
        return x.max_pool1d(self.kernel_size, self.stride, self.padding)


class MaxPool2d(_Pool):
    dims = 2

    def forward(self, x):
        return x.max_pool2d(self.kernel_size, self.stride, self.padding)


class AvgPool1d(_Pool):
    dims = 1

    def forward(self, x):
        return x.avg_pool1d(self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool):
    dims = 2

    def forward(self, x):
        return x.avg_pool2d(self.kernel_size, self.stride, self.padding)


class AdaptiveAvgPool1d(Module):
    """(N, C, L) -> (N, C, 1): only the mean over the whole signal."""

    def __init__(self, output_size=1):
        super().__init__()
        if shapes.spread(output_size, 1) != (1,):
            raise ValueError(f"AdaptiveAvgPool1d: output_size {output_size} is not 1.")

    def forward(self, x):
        return x.mean(-1, True)


class AdaptiveAvgPool2d(Module):
    """(N, C, H, W) -> (N, C, 1, 1): only the mean over the whole image."""

    def __init__(self, output_size=1):
        super().__init__()
        if shapes.spread(output_size, 2) != (1, 1):
            raise ValueError(f"AdaptiveAvgPool2d: output_size {output_size} is not 1.")

    def forward(self, x):
        return x.mean((-2, -1), True)


class Flatten(Module):
    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x):
        return x.flatten(self.start_dim, self.end_dim)


class Dropout(Module):
    """In training, zeros with probability p and the rest scaled by 1 / (1 - p)."""

    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p={p} is not in [0, 1).")
        self.p = p

    def forward(self, x):
        return x.dropout(self.p, self.training)
