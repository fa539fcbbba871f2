"""A float Tensor on array('f'): PyTorch's names, plain loops, the same on a board and a laptop.

This is the readable reference, without gradients: the laptop's tinytorch.Tensor has the same
methods on numpy. An element's place in `data` is the sum of index times stride, and broadcasting,
transposing, slicing and reducing are all one idea: to read the same data with other strides.
"""

import math
import random
from array import array

from tinytorch_core import shapes


def offsets(shape, strides, start=0):
    """The places of a strided view's elements, in row-major order."""
    if not shape:
        yield start
    else:
        for i in range(shape[0]):
            yield from offsets(shape[1:], strides[1:], start + i * strides[0])


def expanded(own, shape):
    """The places of the elements of a tensor of shape `own` when it is broadcast to `shape`."""
    steps = [s if n > 1 else 0 for n, s in zip(own, shapes.strides(own))]
    return offsets(shape, [0] * (len(shape) - len(own)) + steps)


def windows(x, kernel, stride, padding, dilation=(1, 1)):
    """For each place of a kernel (kh, kw) on an image (h, w): the [(tap, pixel)] inside it."""
    (h, w), (kh, kw) = x, kernel
    for top in range(-padding[0], h + padding[0] - (kh - 1) * dilation[0], stride[0]):
        for left in range(-padding[1], w + padding[1] - (kw - 1) * dilation[1], stride[1]):
            taps = []
            for tap in range(kh * kw):
                i = top + tap // kw * dilation[0]
                j = left + tap % kw * dilation[1]
                if 0 <= i < h and 0 <= j < w:
                    taps.append((tap, i * w + j))
            yield taps


def sigmoid(v):
    return 0.5 + 0.5 * math.tanh(0.5 * v)  # exp(-v) would overflow


class Tensor:
    """data: array('f') in row-major order; shape: tuple of ints, () for a single number."""

    def __init__(self, data, shape):
        if len(data) != shapes.size(shape):
            raise ValueError(f"Tensor: {len(data)} numbers do not fill shape {tuple(shape)}.")
        self.data = data
        self.shape = tuple(shape)

    @staticmethod
    def full(shape, value):
        return Tensor(array("f", (value for _ in range(shapes.size(shape)))), shape)

    @staticmethod
    def zeros(shape):
        return Tensor.full(shape, 0.0)

    @staticmethod
    def ones(shape):
        return Tensor.full(shape, 1.0)

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def T(self):
        return self.permute(*reversed(range(self.ndim)))

    def numel(self):
        return len(self.data)

    def __len__(self):
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return f"tensor({self.tolist()})"

    def item(self):
        if len(self.data) != 1:
            raise ValueError(f"item: shape {self.shape} holds {len(self.data)} numbers, not one.")
        return self.data[0]

    def tolist(self):
        return [t.tolist() for t in self] if self.shape else self.data[0]

    def detach(self):
        return self

    # In place.

    def copy_(self, other):
        if other.shape != self.shape:
            raise ValueError(f"copy_: shape {other.shape} does not fit into {self.shape}.")
        for i, value in enumerate(other.data):
            self.data[i] = value
        return self

    def uniform_(self, low=0.0, high=1.0):
        for i in range(len(self.data)):
            self.data[i] = random.uniform(low, high)
        return self

    def normal_(self, mean=0.0, std=1.0):
        """(Box and Muller, 1958.)"""
        for i in range(len(self.data)):
            radius = math.sqrt(-2 * math.log(1 - random.random()))
            self.data[i] = mean + std * radius * math.cos(2 * math.pi * random.random())
        return self

    # Other shapes. All but reshape copy, so that data is always in row-major order.

    def _view(self, shape, strides, start=0):
        data = self.data
        return Tensor(array("f", (data[i] for i in offsets(shape, strides, start))), shape)

    def reshape(self, *shape):
        """The same numbers, shared, in another shape: numbers or one tuple; -1 is worked out."""
        return Tensor(self.data, shapes.reshape(self.shape, shapes.given(shape)))

    def flatten(self, start_dim=0, end_dim=-1):
        return self.reshape(shapes.flatten(self.shape, start_dim, end_dim))

    def permute(self, *dims):
        dims = shapes.given(dims)
        strides = shapes.strides(self.shape)
        return self._view([self.shape[d] for d in dims], [strides[d] for d in dims])

    def transpose(self, dim0, dim1):
        dims = list(range(self.ndim))
        dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
        return self.permute(*dims)

    def __getitem__(self, key):
        """One integer or slice for each of the first dimensions."""
        key = key if isinstance(key, tuple) else (key,)
        if len(key) > self.ndim:
            raise IndexError(f"[]: {len(key)} indices for shape {self.shape}.")
        steps = shapes.strides(self.shape)
        start = 0
        shape = []
        strides = []
        for d, n in enumerate(self.shape):
            index = key[d] if d < len(key) else None
            if index is None or isinstance(index, slice):
                first, stop, step = index.indices(n) if index is not None else (0, n, 1)
                shape.append(len(range(first, stop, step)))
                strides.append(step * steps[d])
                start += first * steps[d]
            elif -n <= index < n:
                start += index % n * steps[d]
            else:
                raise IndexError(f"[]: index {index} is outside shape {self.shape}.")
        return self._view(shape, strides, start)

    # Element by element.

    def _map(self, function):
        return Tensor(array("f", (function(v) for v in self.data)), self.shape)

    def _zip(self, operation, other, function):
        if not isinstance(other, Tensor):
            return self._map(lambda v: function(v, other))
        if self.shape == other.shape:
            pairs = zip(self.data, other.data)
            return Tensor(array("f", (function(a, b) for a, b in pairs)), self.shape)
        shape = shapes.broadcast(operation, self.shape, other.shape)
        places = zip(expanded(self.shape, shape), expanded(other.shape, shape))
        a, b = self.data, other.data
        return Tensor(array("f", (function(a[i], b[j]) for i, j in places)), shape)

    def __add__(self, other):
        return self._zip("+", other, lambda a, b: a + b)

    def __radd__(self, other):
        return self + other

    def __sub__(self, other):
        return self._zip("-", other, lambda a, b: a - b)

    def __rsub__(self, other):
        return -self + other

    def __mul__(self, other):
        return self._zip("*", other, lambda a, b: a * b)

    def __rmul__(self, other):
        return self * other

    def __truediv__(self, other):
        return self._zip("/", other, lambda a, b: a / b)

    def __rtruediv__(self, other):
        return self._map(lambda v: other / v)

    def __pow__(self, exponent):
        return self._zip("**", exponent, lambda a, b: a**b)

    def __neg__(self):
        return self._map(lambda v: -v)

    def __gt__(self, other):
        return self._zip(">", other, lambda a, b: a > b)

    def __ge__(self, other):
        return self._zip(">=", other, lambda a, b: a >= b)

    def __lt__(self, other):
        return self._zip("<", other, lambda a, b: a < b)

    def __le__(self, other):
        return self._zip("<=", other, lambda a, b: a <= b)

    def exp(self):
        return self._map(math.exp)

    def log(self):
        return self._map(math.log)

    def sqrt(self):
        return self._map(math.sqrt)

    def tanh(self):
        return self._map(math.tanh)

    def sigmoid(self):
        return self._map(sigmoid)

    def relu(self):
        return self._map(lambda v: v if v > 0 else 0.0)

    def relu6(self):
        return self._map(lambda v: min(max(v, 0.0), 6.0))

    def leaky_relu(self, negative_slope=0.01):
        return self._map(lambda v: v if v > 0 else negative_slope * v)

    def elu(self, alpha=1.0):
        return self._map(lambda v: v if v > 0 else alpha * (math.exp(v) - 1))

    def gelu(self, approximate="none"):
        """v times the normal distribution's share below v; "tanh" comes close to it."""
        if approximate == "tanh":
            return self._map(lambda v: v * sigmoid(1.5957691216057308 * (v + 0.044715 * v**3)))
        return self._map(lambda v: 0.5 * v * (1 + math.erf(0.7071067811865476 * v)))

    def silu(self):
        return self._map(lambda v: v * sigmoid(v))

    def hardsigmoid(self):
        return self._map(lambda v: min(max(v + 3, 0.0), 6.0) / 6)

    def hardswish(self):
        return self._map(lambda v: v * min(max(v + 3, 0.0), 6.0) / 6)

    def softplus(self, beta=1.0, threshold=20.0):
        """log(1 + exp(beta v)) / beta; v itself where beta v is above the threshold."""
        return self._map(
            lambda v: v if beta * v > threshold else math.log(1 + math.exp(beta * v)) / beta
        )

    def dropout(self, p=0.5, training=True):
        """Zeros with probability p, the rest scaled up by 1 / (1 - p)."""
        if not training or p == 0:
            return self
        if p == 1:
            return self * 0.0
        return self._map(lambda v: v / (1 - p) if random.random() >= p else 0.0)

    # Reductions.

    def _reduce(self, operation, dim, keepdim, function):
        dims = shapes.axes(operation, dim, self.ndim)
        kept = [d for d in range(self.ndim) if d not in dims]
        rows = self.permute(*kept, *dims).data
        n = shapes.size([self.shape[d] for d in dims])
        shape = shapes.reduced(self.shape, dims, keepdim)
        values = (function(rows[i * n : i * n + n]) for i in range(shapes.size(shape)))
        return Tensor(array("f", values), shape)

    def sum(self, dim=None, keepdim=False):
        return self._reduce("sum", dim, keepdim, sum)

    def mean(self, dim=None, keepdim=False):
        return self._reduce("mean", dim, keepdim, lambda row: sum(row) / len(row))

    def amax(self, dim=None, keepdim=False):
        return self._reduce("amax", dim, keepdim, max)

    def argmax(self, dim=None, keepdim=False):
        """Positions as floats; the first one of equals. Over a flat tensor for dim=None."""
        return self._reduce("argmax", dim, keepdim, lambda row: list(row).index(max(row)))

    def max(self):
        return self.amax()

    def softmax(self, dim):
        e = (self - self.amax(dim, True)).exp()  # shifted, so that exp cannot overflow
        return e / e.sum(dim, True)

    def log_softmax(self, dim):
        shifted = self - self.amax(dim, True)
        return shifted - shifted.exp().sum(dim, True).log()

    # Layers.

    def linear(self, weight, bias=None):
        """self (..., in), weight (out, in), bias (out,) -> (..., out)."""
        shape = shapes.linear(self.shape, weight.shape, None if bias is None else bias.shape)
        y = self.reshape(shapes.size(shape[:-1]), weight.shape[1]) @ weight.T
        return (y if bias is None else y + bias).reshape(shape)

    def embedding(self, weight, padding_idx=None):
        """The rows of weight (num, d) at these indices -> (*shape, d)."""
        num, d = weight.shape
        rows = array("f")
        for i in self.data:
            if not 0 <= i < num:
                raise ValueError(f"embedding: index {int(i)} is not one of 0 to {num - 1}.")
            rows.extend(weight.data[int(i) * d : int(i) * d + d])
        return Tensor(rows, self.shape + (d,))

    def layer_norm(self, shape, weight=None, bias=None, eps=1e-5):
        """Normalised over the last dimensions, of this shape. (Ba et al., 2016.)"""
        given = [t.shape for t in (weight, bias) if t is not None]
        dims = list(range(-shapes.layer_norm(self.shape, shape, given), 0))
        centred = self - self.mean(dims, True)
        y = centred / ((centred * centred).mean(dims, True) + eps).sqrt()
        y = y if weight is None else y * weight
        return y if bias is None else y + bias

    def __matmul__(self, other):
        shape = shapes.matmul(self.shape, other.shape)
        n, k, m = shape[-2], self.shape[-1], shape[-1]
        a, b = self.data, other.data
        out = array("f")
        batch = zip(expanded(self.shape[:-2], shape[:-2]), expanded(other.shape[:-2], shape[:-2]))
        for p, q in batch:
            for i in range(p * n * k, (p + 1) * n * k, k):
                for j in range(q * k * m, q * k * m + m):
                    out.append(sum(a[i + c] * b[j + c * m] for c in range(k)))
        return Tensor(out, shape)

    def pad(self, padding, value=0.0):
        """padding: (before, after) of the last dimension, then of the one before it, and so on."""
        shape = list(self.shape)
        strides = shapes.strides(shape)
        for i in range(len(padding) // 2):
            shape[-1 - i] += padding[2 * i] + padding[2 * i + 1]
        result = Tensor.full(shape, value)
        steps = shapes.strides(shape)
        start = sum([padding[2 * i] * steps[-1 - i] for i in range(len(padding) // 2)])
        places = offsets(self.shape, steps, start)
        for value, place in zip((self.data[i] for i in offsets(self.shape, strides)), places):
            result.data[place] = value
        return result

    def conv2d(self, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        """self (N, C, H, W), weight (O, C / groups, KH, KW), bias (O,) -> (N, O, OH, OW)."""
        return self._conv("conv2d", 2, weight, bias, stride, padding, dilation, groups)

    def conv1d(self, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        """self (N, C, L), weight (O, C / groups, K), bias (O,) -> (N, O, OL)."""
        return self._conv("conv1d", 1, weight, bias, stride, padding, dilation, groups)

    def _conv(self, operation, count, weight, bias, stride, padding, dilation, groups):
        stride, dilation = shapes.ntuple(stride, count), shapes.ntuple(dilation, count)
        padding, more = shapes.padding(operation, padding, weight.shape[2:], stride, dilation)
        if any(more):
            return self.pad(more)._conv(
                operation, count, weight, bias, stride, padding, dilation, groups
            )
        b_shape = None if bias is None else bias.shape
        shape = shapes.conv(
            operation, self.shape, weight.shape, b_shape, stride, padding, dilation, groups
        )
        plane = shapes.size(self.shape[2:])
        taps = shapes.size(weight.shape[2:])
        inputs = weight.shape[1]  # channels that an output sees
        outputs = weight.shape[0] // groups  # outputs that see the same channels
        places = list(windows(
            image(self.shape[2:], 1), image(weight.shape[2:], 1), image(stride, 1),
            image(padding, 0), image(dilation, 1),
        ))  # fmt: skip
        x, w = self.data, weight.data
        out = array("f")
        for n in range(shape[0]):
            for o in range(shape[1]):
                start = bias.data[o] if bias is not None else 0.0
                first = (n * self.shape[1] + o // outputs * inputs) * plane
                for place in places:
                    acc = start
                    for c in range(inputs):
                        at = first + c * plane
                        row = (o * inputs + c) * taps
                        for tap, pixel in place:
                            acc += x[at + pixel] * w[row + tap]
                    out.append(acc)
        return Tensor(out, shape)

    def max_pool1d(self, kernel_size, stride=None, padding=0):
        return self._pool("max_pool1d", 1, kernel_size, stride, padding, max)

    def max_pool2d(self, kernel_size, stride=None, padding=0):
        return self._pool("max_pool2d", 2, kernel_size, stride, padding, max)

    def avg_pool1d(self, kernel_size, stride=None, padding=0):
        return self._pool("avg_pool1d", 1, kernel_size, stride, padding, None)

    def avg_pool2d(self, kernel_size, stride=None, padding=0):
        """Zeros of the padding count in the average, as they do in PyTorch."""
        return self._pool("avg_pool2d", 2, kernel_size, stride, padding, None)

    def _pool(self, operation, count, kernel, stride, padding, function):
        kernel = shapes.ntuple(kernel, count)
        stride = kernel if stride is None else shapes.ntuple(stride, count)
        padding = shapes.ntuple(padding, count)
        shape = shapes.pool(operation, self.shape, kernel, stride, padding)
        area = shapes.size(kernel)
        function = function or (lambda row: sum(row) / area)
        places = windows(
            image(self.shape[2:], 1), image(kernel, 1), image(stride, 1), image(padding, 0)
        )
        pixels = [[pixel for _, pixel in place] for place in places]
        return self._planes(shape, pixels, function)

    def adaptive_avg_pool1d(self, output_size):
        """(N, C, L) -> (N, C, output_size)."""
        return self._adaptive_avg_pool("adaptive_avg_pool1d", shapes.ntuple(output_size, 1))

    def adaptive_avg_pool2d(self, output_size):
        """(N, C, H, W) -> (N, C, *output_size)."""
        return self._adaptive_avg_pool("adaptive_avg_pool2d", shapes.ntuple(output_size, 2))

    def _adaptive_avg_pool(self, operation, sizes):
        parts = shapes.parts(operation, self.shape, sizes)
        shape = self.shape[:2] + tuple([len(p) for p in parts])
        rows, columns = parts if len(parts) == 2 else ([(0, 1)], parts[0])
        width = self.shape[-1]
        pixels = [
            [i * width + j for i in range(*row) for j in range(*column)]
            for row in rows for column in columns
        ]  # fmt: skip
        return self._planes(shape, pixels, lambda row: sum(row) / len(row))

    def _planes(self, shape, pixels, function):
        """For each channel's plane, and each list of its pixels: a function of their numbers."""
        plane = shapes.size(self.shape[2:])
        out = array("f")
        for first in range(0, len(self.data), plane):
            for places in pixels:
                out.append(function([self.data[first + pixel] for pixel in places]))
        return Tensor(out, shape)

    def batch_norm(
        self, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1,
        eps=1e-5, count=None,
    ):  # fmt: skip
        """Each channel of (N, C, ...) normalised, then scaled and shifted.

        In training, or without running statistics, over the batch. Training moves the running
        statistics by `momentum`, with the unbiased variance as in PyTorch, and adds one to count;
        without a momentum they are the mean over all batches. (Ioffe and Szegedy, 2015.)
        """
        dims = [d for d in range(self.ndim) if d != 1]
        columns = [-1] + [1] * (self.ndim - 2)
        mean, var = running_mean, running_var
        if training or running_mean is None:
            n = self.numel() // self.shape[1]
            mean = self.mean(dims)
            centred = self - mean.reshape(*columns)
            var = (centred * centred).mean(dims)
            if count is not None:
                count.copy_(count + 1)
            if running_mean is not None:
                part = 1 / count.item() if momentum is None else momentum
                running_mean.copy_(running_mean * (1 - part) + mean * part)
                running_var.copy_(running_var * (1 - part) + var * (part * n / (n - 1)))
        gain = 1 / (var + eps).sqrt()
        gain = gain if weight is None else weight * gain
        shift = -mean * gain if bias is None else bias - mean * gain
        return self * gain.reshape(*columns) + shift.reshape(*columns)


def image(numbers, height):
    """The numbers of a signal as those of an image one pixel high; an image's as they are."""
    return (height,) + tuple(numbers) if len(numbers) == 1 else tuple(numbers)


def tensor(values):
    """Nested sequences of numbers as a Tensor."""
    shape = []
    level = values
    while not isinstance(level, (int, float)):
        shape.append(len(level))
        level = level[0] if len(level) else 0
    flat = [values]
    for n in shape:
        if any(len(row) != n for row in flat):
            raise ValueError("tensor: the rows have different lengths.")
        flat = [v for row in flat for v in row]
    return Tensor(array("f", flat if shape else [values]), shape)


def zeros(*shape):
    return Tensor.zeros(shapes.given(shape))


def ones(*shape):
    return Tensor.ones(shapes.given(shape))
