"""Shape inference: the shape of each operation's output, and the errors where shapes do not fit.

A shape is a tuple of ints. `operation` names the caller in the errors, which are ValueErrors.
"""


def size(shape):
    """The number of elements (int)."""
    n = 1
    for length in shape:
        n *= length
    return n


def strides(shape):
    """The strides of a row-major array, in elements: a tuple of ints."""
    steps: list = []
    step = 1
    for length in reversed(shape):
        steps.insert(0, step)
        step *= length
    return tuple(steps)


def ntuple(value, count):
    """A tuple of `count` ints, one for each spatial dimension, from an int or a sequence of ints.

    Raises ValueError for a sequence of another length.
    """
    numbers = (value,) * count if isinstance(value, int) else tuple(value)
    if len(numbers) != count:
        raise ValueError(f"{numbers} has {len(numbers)} numbers where {count} are needed.")
    return numbers


def broadcast(operation, a, b):
    """The shape that two shapes broadcast to, by numpy's rule."""
    ndim = max(len(a), len(b))
    result = []
    for m, n in zip((1,) * (ndim - len(a)) + tuple(a), (1,) * (ndim - len(b)) + tuple(b)):
        if m != n and m != 1 and n != 1:
            raise ValueError(f"{operation}: shapes {tuple(a)} and {tuple(b)} do not broadcast.")
        result.append(n if m == 1 else m)
    return tuple(result)


def axis(operation, dim, ndim):
    """`dim` counted from the front, 0 to ndim - 1. Raises ValueError where it is out of range."""
    if not -ndim <= dim < ndim:
        raise ValueError(f"{operation}: there is no dimension {dim} among {ndim}.")
    return dim % ndim


def axes(operation, dim, ndim):
    """The dimensions to reduce, sorted: a tuple of ints. dim: an int, a sequence, or None for all.

    Raises ValueError for a dimension that is out of range or given twice.
    """
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else dim
    ordered = sorted([axis(operation, d, ndim) for d in dims])
    if len(set(ordered)) != len(ordered):
        raise ValueError(f"{operation}: {tuple(dims)} names a dimension twice.")
    return tuple(ordered)


def reduced(shape, dims, keepdim):
    """`shape` after the reduction of `dims`, which keepdim leaves as lengths of 1."""
    return tuple([(1 if d in dims else n) for d, n in enumerate(shape) if keepdim or d not in dims])


def given(numbers):
    """A tuple of ints from the arguments of a call that takes ints or one sequence of them."""
    return tuple(numbers[0] if len(numbers) == 1 and not isinstance(numbers[0], int) else numbers)


def reshape(shape, new):
    """`new` with its -1 replaced by the length that fits.

    Raises ValueError where the numbers of elements differ.
    """
    total = size(shape)
    known = size([n for n in new if n != -1])
    full = tuple(total // known if n == -1 and known else n for n in new)
    if size(full) != total or new.count(-1) > 1 or any(n < 0 for n in full):
        raise ValueError(f"reshape: shape {tuple(shape)} does not fit into {new}.")
    return full


def flatten(shape, start_dim, end_dim):
    """`shape` with the dimensions start_dim to end_dim, both included, merged into one."""
    shape = tuple(shape) or (1,)
    first = axis("flatten", start_dim, len(shape))
    last = axis("flatten", end_dim, len(shape))
    return shape[:first] + (size(shape[first : last + 1]),) + shape[last + 1 :]


def matmul(a, b):
    """(..., n, k) @ (..., k, m) -> (..., n, m); the leading dimensions broadcast."""
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
    """The number of dimensions at the end of x to normalise over.

    normal: the shape that x must end in; parameters: the shapes of weight and bias, which must be
    equal to it.
    """
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
    """The padding of a convolution: (ints for both ends of each dimension, extra amounts as x.pad
    takes them).

    padding: an int, a sequence, "valid" (none) or "same" (the output is as long as the input; an
    odd total puts one more at the end).
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
    """The windows of adaptive pooling: for each spatial dimension of x (N, C, *spatial) a list of
    (start, end), one for each output.

    sizes: the output size, None for the input's. Windows overlap by one where the sizes do not
    divide, as in PyTorch.
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

    stride, padding, dilation: a tuple of ints, one for each spatial dimension.
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
    """The number of positions of a kernel along each spatial dimension of x: a tuple of ints."""
    out = []
    for n, k, s, p in zip(x[2:], kernel, stride, padding):
        if n + 2 * p < k:
            raise ValueError(
                f"{operation}: kernel {tuple(kernel)} is larger than input {tuple(x)} with "
                f"padding {tuple(padding)}."
            )
        out.append((n + 2 * p - k) // s + 1)
    return tuple(out)
