"""Shapes: what an operation makes of its inputs' shapes, and the errors where they do not fit.

A shape is a tuple of ints. `operation` names the caller in the errors, which are ValueErrors.
"""


def size(shape):
    """The number of elements."""
    n = 1
    for length in shape:
        n *= length
    return n


def strides(shape):
    """How far apart neighbours lie in each dimension of a row-major array."""
    steps: list = []
    step = 1
    for length in reversed(shape):
        steps.insert(0, step)
        step *= length
    return tuple(steps)


def ntuple(value, count):
    """An int or a sequence as `count` numbers, one for each spatial dimension."""
    numbers = (value,) * count if isinstance(value, int) else tuple(value)
    if len(numbers) != count:
        raise ValueError(f"{numbers} has {len(numbers)} numbers where {count} are needed.")
    return numbers


def broadcast(operation, a, b):
    """The shape of an element-wise operation: aligned at the end, a length of 1 stretches."""
    ndim = max(len(a), len(b))
    result = []
    for m, n in zip((1,) * (ndim - len(a)) + tuple(a), (1,) * (ndim - len(b)) + tuple(b)):
        if m != n and m != 1 and n != 1:
            raise ValueError(f"{operation}: shapes {tuple(a)} and {tuple(b)} do not broadcast.")
        result.append(n if m == 1 else m)
    return tuple(result)


def axis(operation, dim, ndim):
    """A dimension counted from the front."""
    if not -ndim <= dim < ndim:
        raise ValueError(f"{operation}: there is no dimension {dim} among {ndim}.")
    return dim % ndim


def axes(operation, dim, ndim):
    """The dimensions to reduce, in order: all of them for None."""
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else dim
    found = sorted([axis(operation, d, ndim) for d in dims])
    if len(set(found)) != len(found):
        raise ValueError(f"{operation}: {tuple(dims)} names a dimension twice.")
    return tuple(found)


def reduced(shape, dims, keepdim):
    """A shape after the reduction of `dims`."""
    kept = [(1 if d in dims else n) for d, n in enumerate(shape) if keepdim or d not in dims]
    return tuple(kept)


def given(numbers):
    """The arguments of a call that takes a shape: numbers, or one sequence of them."""
    return tuple(numbers[0] if len(numbers) == 1 and not isinstance(numbers[0], int) else numbers)


def reshape(shape, new):
    """`new` with its -1 worked out."""
    total = size(shape)
    known = size([n for n in new if n != -1])
    found = tuple(total // known if n == -1 and known else n for n in new)
    if size(found) != total or new.count(-1) > 1 or any(n < 0 for n in found):
        raise ValueError(f"reshape: shape {tuple(shape)} does not fit into {new}.")
    return found


def flatten(shape, start_dim, end_dim):
    """`shape` with the dimensions from start_dim to end_dim, both included, made one."""
    shape = tuple(shape) or (1,)
    first = axis("flatten", start_dim, len(shape))
    last = axis("flatten", end_dim, len(shape))
    return shape[:first] + (size(shape[first : last + 1]),) + shape[last + 1 :]


def matmul(a, b):
    """(..., n, k) @ (..., k, m) -> (..., n, m); the dimensions before broadcast."""
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError(
            f"matmul: shapes {tuple(a)} and {tuple(b)} do not fit; (..., n, k) @ (..., k, m) do."
        )
    return broadcast("matmul", a[:-2], b[:-2]) + (a[-2], b[-1])


def linear(x, weight, bias):
    """x (..., in), weight (out, in), bias (out,) or None -> (..., out)."""
    if len(weight) != 2 or x[-1:] != weight[1:]:
        raise ValueError(
            f"linear: input {tuple(x)} does not fit weight {tuple(weight)}; (..., in) and "
            "(out, in) do."
        )
    if bias is not None and tuple(bias) != weight[:1]:
        raise ValueError(f"linear: bias {tuple(bias)} does not fit weight {tuple(weight)}.")
    return tuple(x[:-1]) + (weight[0],)


def layer_norm(x, normal, parameters):
    """How many dimensions at the end of x are normalised; parameters: shapes like `normal`."""
    dims = len(normal)
    if not 0 < dims <= len(x) or tuple(x[len(x) - dims :]) != tuple(normal):
        raise ValueError(f"layer_norm: input {tuple(x)} does not end in {tuple(normal)}.")
    for shape in parameters:
        if tuple(shape) != tuple(normal):
            raise ValueError(
                f"layer_norm: weight or bias {tuple(shape)} does not have shape {tuple(normal)}."
            )
    return dims


def padding(operation, padding, kernel, stride, dilation):
    """What a convolution pads: numbers for both ends of each dimension, and what else x.pad adds.

    padding: numbers, "valid" (none) or "same" (the output is as long as the input; what does not
    divide evenly comes at the end).
    """
    more = [0, 0] * len(kernel)
    if not isinstance(padding, str):
        return ntuple(padding, len(kernel)), more
    if padding == "valid":
        return (0,) * len(kernel), more
    if padding != "same" or any(s != 1 for s in stride):
        raise ValueError(
            f"{operation}: padding {padding!r} with stride {tuple(stride)}: give numbers, "
            '"valid", or "same" with stride 1.'
        )
    total = [(k - 1) * d for k, d in zip(kernel, dilation)]
    for i, n in enumerate(reversed(total)):
        more[2 * i + 1] = n % 2
    return tuple([n // 2 for n in total]), more


def parts(operation, x, sizes):
    """For each spatial dimension of x (N, C, *spatial) its (start, end) of so many equal parts.

    Where they cannot be equal they overlap by one, as in PyTorch; None: as many as there are.
    """
    if len(x) != 2 + len(sizes):
        raise ValueError(
            f"{operation}: input {tuple(x)} does not fit output size {tuple(sizes)}; an input has "
            "a batch and a channel dimension first."
        )
    result = []
    for n, size in zip(x[2:], sizes):
        size = n if size is None else size
        result.append([(i * n // size, -(-(i + 1) * n // size)) for i in range(size)])
    return result


def conv(operation, x, weight, bias, stride, padding, dilation, groups):
    """x (N, C, *spatial), weight (O, C / groups, *kernel), bias (O,) or None -> (N, O, *out).

    stride, padding, dilation: one number for each spatial dimension.
    """
    dims = 2 + len(stride)
    if not len(x) == len(weight) == dims or x[1] != weight[1] * groups or weight[0] % groups:
        raise ValueError(
            f"{operation}: input {tuple(x)} does not fit weight {tuple(weight)} with "
            f"groups={groups}; (N, C, ...) and (out, C / groups, ...), {dims} dimensions each, do."
        )
    if bias is not None and tuple(bias) != (weight[0],):
        raise ValueError(f"{operation}: bias {tuple(bias)} does not fit weight {tuple(weight)}.")
    kernel = tuple((k - 1) * d + 1 for k, d in zip(weight[2:], dilation))
    return (x[0], weight[0]) + slide(operation, x, kernel, stride, padding)


def pool(operation, x, kernel, stride, padding):
    """x (N, C, *spatial) -> (N, C, *out)."""
    if len(x) != 2 + len(kernel):
        raise ValueError(
            f"{operation}: input {tuple(x)} does not fit kernel {tuple(kernel)}; an input has a "
            "batch and a channel dimension first."
        )
    if any(2 * p > k for p, k in zip(padding, kernel)):
        raise ValueError(
            f"{operation}: padding {tuple(padding)} is more than half of kernel {tuple(kernel)}."
        )
    return tuple(x[:2]) + slide(operation, x, kernel, stride, padding)


def slide(operation, x, kernel, stride, padding):
    """How many positions a kernel takes along each spatial dimension of x."""
    out = []
    for n, k, s, p in zip(x[2:], kernel, stride, padding):
        if n + 2 * p < k:
            raise ValueError(
                f"{operation}: kernel {tuple(kernel)} is larger than input {tuple(x)} with "
                f"padding {tuple(padding)}."
            )
        out.append((n + 2 * p - k) // s + 1)
    return tuple(out)
