"""Operations of tensors against PyTorch and finite differences: values, gradients, and gradients of
the gradients. The functions run with the tensors of both libraries."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

import tinytorch
from tests.host.gradients import check, check_higher
from tests.oracles import oracle
from tinytorch.autograd.tensor import Tensor

torch = oracle("torch", "oracle")
F = torch.nn.functional

few = settings(max_examples=12, deadline=None, derandomize=True)
any_shape = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def random(*shape, low=-2.0, high=2.0, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape)


def library(t):
    return tinytorch if isinstance(t, Tensor) else torch


def both(f, *arrays):
    """What f makes of tensors of both libraries, as arrays."""
    results = f(*map(Tensor, arrays)), f(*map(torch.tensor, arrays))
    ours, theirs = (y if isinstance(y, tuple) else (y,) for y in results)
    for mine, other in zip(ours, theirs, strict=True):
        other = other.numpy()
        assert mine.shape == other.shape and mine.dtype == other.dtype
        np.testing.assert_allclose(mine.data, other, rtol=1e-6, atol=1e-6)


ELEMENTS = {
    "abs": lambda a: a.abs(),
    "sign": lambda a: a.sign() * a,
    "exp": lambda a: a.exp(),
    "expm1": lambda a: a.expm1(),
    "log": lambda a: (a + 3).log(),
    "log1p": lambda a: (a + 2).log1p(),
    "log2": lambda a: (a + 3).log2(),
    "log10": lambda a: (a + 3).log10(),
    "sqrt": lambda a: (a + 3).sqrt(),
    "rsqrt": lambda a: (a + 3).rsqrt(),
    "square": lambda a: a.square(),
    "reciprocal": lambda a: (a + 3).reciprocal(),
    "sin": lambda a: a.sin(),
    "cos": lambda a: a.cos(),
    "tanh": lambda a: a.tanh(),
    "sigmoid": lambda a: a.sigmoid(),
    "relu": lambda a: a.relu(),
    "neg": lambda a: -a.neg() * a,
    "clamp": lambda a: a.clamp(-1, 1.5),
    "clamp below": lambda a: library(a).clamp(a, min=0.5),
    "clip above": lambda a: a.clip(max=0.5),
    "floor": lambda a: a.floor() + a,
    "ceil": lambda a: a.ceil() * a,
    "round": lambda a: a.round() + a * a,
    "trunc": lambda a: a.trunc() * a,
    "numbers": lambda a: (2 - a) / 4 + 3 / (a + 3) - 2 * a,
    "to a power": lambda a: a**3 + (a + 3) ** -1.5 + (a + 3) ** 0.5 + a**2,
    "a power of a number": lambda a: 2**a + library(a).pow(a + 3, 2.5),
    "remainder": lambda a: a % 0.7,
    "softplus": lambda a: (1 + a.exp()).log(),
    "nan_to_num": lambda a: a.nan_to_num() * a,
    "to and fro": lambda a: a.float().double() * a,
    "where": lambda a: library(a).where(a > 0, a, 0.1 * a * a),
    "where of numbers": lambda a: library(a).where(a > 0, 1.0, a * a),
    "masked_fill": lambda a: a.masked_fill(a > 0, 2.0) * a,
    "lerp": lambda a: a.lerp(a * a, 0.3),
}


@pytest.mark.parametrize("name", ELEMENTS)
@few
@given(shape=any_shape)
def test_functions_of_elements(name, shape):
    # Away from the corners of the functions, where no two methods agree on a slope.
    a = random(*shape)
    a = a + 0.03 * (np.abs(a * 2 - np.round(a * 2)) < 0.02)
    f = ELEMENTS[name]
    loose = name == "to and fro"  # by float32
    if not loose:
        check(f, f, a)
    check_higher(f, a)


PAIRS = {
    "add": lambda a, b: a.add(b, alpha=2),
    "sub": lambda a, b: a.sub(b, alpha=2) - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / (b + 3),
    "pow": lambda a, b: (a + 3) ** b,
    "remainder": lambda a, b: a % (b + 3),
    "maximum": lambda a, b: library(a).maximum(a, b) * a,
    "minimum": lambda a, b: a.minimum(b) * b,
    "where": lambda a, b: library(a).where(a < b, a * b, b),
    "clamp": lambda a, b: a.clamp(min=b),
}


@pytest.mark.parametrize("name", PAIRS)
@few
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3))
def test_functions_of_two_tensors_broadcast(name, shapes):
    a, b = shapes.input_shapes
    check(PAIRS[name], PAIRS[name], random(*a), random(*b, seed=1))
    check_higher(PAIRS[name], random(*a), random(*b, seed=1))


SHAPES = {
    "reshape": lambda a: a.reshape(4, -1),
    "view": lambda a: a.view(2, 12),
    "flatten": lambda a: a.flatten(1) * a.flatten(0, 1).sum(),
    "unflatten": lambda a: a.unflatten(-1, (2, -1)),
    "permute": lambda a: a.permute(2, 0, 1),
    "transpose": lambda a: a.transpose(0, -1),
    "T": lambda a: a[0].T @ a[1],
    "mT": lambda a: a.mT @ a,
    "t": lambda a: a[0].t(),
    "movedim": lambda a: a.movedim(0, -1),
    "movedim of several": lambda a: a.movedim((0, 1), (2, 0)),
    "swapaxes": lambda a: a.swapaxes(0, 1),
    "squeeze": lambda a: a[:1].squeeze() + a[:, :1].squeeze(1).sum(),
    "unsqueeze": lambda a: a.unsqueeze(0) * a.unsqueeze(-1).sum(),
    "expand": lambda a: a[:, :1].expand(2, 5, 4) * a[0, 0].expand(3, -1).sum(),
    "expand_as": lambda a: a[:1].expand_as(a) * a,
    "broadcast_to": lambda a: a[0].broadcast_to(2, 3, 4),
    "repeat": lambda a: a.repeat(2, 1, 3),
    "repeat more": lambda a: a[0].repeat(2, 3, 1),
    "repeat_interleave": lambda a: a.repeat_interleave(2, 1),
    "tile": lambda a: a.tile(2, 1, 2),
    "narrow": lambda a: a.narrow(2, 1, 2),
    "split": lambda a: a.split(2, 1)[1] * a.split([1, 3], 2)[0].sum(),
    "chunk": lambda a: a.chunk(3, 2)[1] * a.chunk(2, 0)[0].sum(),
    "unbind": lambda a: a.unbind(1)[2],
    "select": lambda a: a.select(1, -1),
    "diagonal": lambda a: a.diagonal(0, 1, 2),
    "diagonal beside": lambda a: a.diagonal(1),
    "diag": lambda a: library(a).diag(a[0, 0]) + a[0, 1].diag(1)[:4, :4],
    "tril": lambda a: a.tril(-1) + a.tril(),
    "triu": lambda a: a.triu(1) * 2,
    "flip": lambda a: a.flip(0, 2) + a.flip((1,)),
    "roll": lambda a: a.roll(1, 0) + a.roll((1, 2), (1, 2)) + a.roll(5),
    "cat": lambda a: library(a).cat([a, a * 2, a[:, :0]], 1),
    "stack": lambda a: library(a).stack([a, a * a], -1),
    "contiguous": lambda a: a.transpose(0, 1).contiguous().view(-1),
    "meshgrid": lambda a: library(a).meshgrid(a[0, 0], a[0, :, 0], indexing="ij")[1],
    "index": lambda a: a[0, 1:, None],
    "index with steps": lambda a: a[..., ::2] * a[:, 1:2, 2:],
    "an index twice": lambda a: a[[0, 1, 0, 0]],
    "indices": lambda a: a[[0, 1, 1], 1:, [3, 0, 0]],
    "indices of many dimensions": lambda a: a[:, [[0, 1], [2, 2]]],
    "a mask": lambda a: a[a > -10] * 2,
    "a mask of rows": lambda a: a[[True, False]],
    "index_select": lambda a: a.index_select(1, library(a).tensor([0, 2, 2])),
    "take_along_dim": lambda a: library(a).take_along_dim(a, a.argsort(1)[:, :2], 1),
    "gather": lambda a: a.gather(2, library(a).tensor([[[0, 1, 1]]])),
    "scatter": lambda a: a.scatter(1, library(a).tensor([[[0, 1], [2, 0]]]), a[:1, :2, :2] * 3),
    "scatter a number": lambda a: a.scatter(1, library(a).tensor([[[0, 1], [2, 0]]]), 7.0),
    "scatter_add": lambda a: a.scatter_add(1, library(a).tensor([[[0], [0]]]), a[:1, :2, :1] * 3),
    "masked_select": lambda a: a.masked_select(a > -10),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_and_indices(name):
    check(SHAPES[name], SHAPES[name], random(2, 3, 4))
    check_higher(lambda a: SHAPES[name](a * a), random(2, 3, 4))


REDUCTIONS = {
    "sum": lambda a: a.sum(),
    "sum of a dim": lambda a: a.sum(1, keepdim=True),
    "sum of dims": lambda a: a.sum((0, -1)),
    "mean": lambda a: a.mean(),
    "mean of dims": lambda a: a.mean((0, 2), True),
    "var": lambda a: a.var(),
    "var of a dim": lambda a: a.var(1, keepdim=True),
    "var of all": lambda a: a.var(2, unbiased=False) + a.var(0, correction=0).sum(),
    "std": lambda a: a.std(),
    "std of a dim": lambda a: a.std(-1),
    "prod": lambda a: a.prod(),
    "prod of a dim": lambda a: a.prod(1),
    "amax": lambda a: a.amax((1, 2)),
    "amin": lambda a: a.amin(0, keepdim=True),
    "max": lambda a: a.max(),
    "max of a dim": lambda a: a.max(1).values,
    "min": lambda a: a.min() * a.min(2, keepdim=True)[0],
    "median": lambda a: a.median(),
    "median of a dim": lambda a: a.median(2, keepdim=True).values,
    "sort": lambda a: a.sort(1, descending=True).values,
    "topk": lambda a: a.topk(2, 1).values * a.topk(2, dim=1, largest=False)[0],
    "cumsum": lambda a: a.cumsum(1),
    "logsumexp": lambda a: a.logsumexp(2) + a.logsumexp((0, 1), keepdim=True).sum(),
    "norm": lambda a: a.norm() + a.norm(dim=1).sum(),
    "other norms": lambda a: (
        a.norm(1, dim=2) + a.norm(math.inf, dim=2) + a.norm(3, 2) + a.norm(-math.inf, dim=2)
    ),
    "softmax": lambda a: a.softmax(1),
    "log_softmax": lambda a: a.log_softmax(-1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name):
    check(REDUCTIONS[name], REDUCTIONS[name], random(2, 3, 4))
    check_higher(REDUCTIONS[name], random(2, 3, 4))


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "var", "std", "logsumexp", "norm"])
@few
@given(shape=any_shape, data=st.data())
def test_reductions_of_any_shape(name, shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1)) if shape else 0
    settings = {"correction": 0} if name in ("var", "std") else {}
    f = lambda a: getattr(a, name)(dim=dim, keepdim=True, **settings)  # noqa: E731
    a = random(*shape)
    if a.size and (name != "std" or (a.ndim and a.shape[dim] > 1)):
        check(f, f, a)
    elif name not in ("std", "var"):  # PyTorch warns
        with np.errstate(all="ignore"):
            both(f, a)


def test_products_of_dims_with_zeros():
    a = random(3, 4)
    a[0, 1] = a[1, 2] = a[1, 3] = 0
    f = lambda a: a.prod(1)  # noqa: E731
    check(f, f, a)
    check_higher(f, a)
    check(lambda a: a.cumprod(1), lambda a: a.cumprod(1), a)


MATRICES = {
    "mm": lambda a, b: a[0].mm(b[0]),
    "bmm": lambda a, b: library(a).bmm(a, b),
    "matmul": lambda a, b: a.matmul(b[0]) @ b[:1].mT,
    "a vector": lambda a, b: a @ b[0, :, 0],
    "two vectors": lambda a, b: a[0, 0] @ b[0, :, 0] + a[0, 0].dot(b[0, :, 1]),
    "a row": lambda a, b: a[0, 0] @ b,
    "mv": lambda a, b: a[0].mv(b[0, :, 0]),
    "outer": lambda a, b: a[0, 0].outer(b[0, 0]),
    "einsum": lambda a, b: library(a).einsum("bij,bjk->bik", a, b),
    "einsum without output": lambda a, b: library(a).einsum("bij,bjk", a, b),
    "einsum of one": lambda a, b: library(a).einsum("bij->jb", a) * 2,
    "einsum of sums": lambda a, b: library(a).einsum("bij,ckl->", a, b),
    "einsum of three": lambda a, b: library(a).einsum("bij,bjk,bik->bk", a, b, (a @ b)),
    "einsum with dots": lambda a, b: library(a).einsum("...ij,...jk->...ik", a, b[:1]),
    "einsum of heads": lambda a, b: library(a).einsum("bij,bij->bj", a, a) * 1,
    "einsum, outer": lambda a, b: library(a).einsum("i, j -> ij", a[0, 0], b[0, 0]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_products_of_matrices(name):
    check_or_skip = MATRICES[name]
    arrays = random(2, 3, 4), random(2, 4, 5, seed=1)
    f = lambda a, b: check_or_skip(a, b) + 0 * (a.sum() + b.sum())  # noqa: E731
    check(f, f, *arrays)
    check_higher(f, *arrays)


def test_einsum_of_a_diagonal():
    f = lambda a: library(a).einsum("bii->bi", a) + library(a).einsum("bii->b", a).sum()  # noqa: E731
    check(f, f, random(2, 3, 3))
    check_higher(f, random(2, 3, 3))


@few
@given(data=st.data())
def test_any_einsum(data):
    lengths = {c: data.draw(st.integers(0, 3)) for c in "abcd"}
    terms = data.draw(st.lists(st.lists(st.sampled_from("abcd"), max_size=3, unique=True),
                               min_size=1, max_size=3))  # fmt: skip
    used = sorted({c for term in terms for c in term})
    output = data.draw(st.permutations(used).flatmap(
        lambda order: st.integers(0, len(order)).map(lambda n: order[:n])))  # fmt: skip
    equation = ",".join(map("".join, terms)) + "->" + "".join(output)
    arrays = [random(*[lengths[c] for c in term], seed=i) for i, term in enumerate(terms)]
    f = lambda *t: library(t[0]).einsum(equation, *t)  # noqa: E731
    check(f, f, *arrays)
    check_higher(f, *arrays)


QUESTIONS = {
    "compared": lambda a, b: (a < b, a <= b, a > b, a >= b, a == b, a != b, a.eq(b), a.ge(1)),
    "logical": lambda a, b: (
        (a > 0) & (b > 0), (a > 0) | (b > 0), (a > 0) ^ (b > 0), ~(a > 0), a.logical_and(b),
        a.logical_or(b), a.logical_xor(b), a.logical_not(),
    ),
    "any": lambda a, b: ((a > 1).any(), (a > 1).any(1), (a > 0).all(), (a > 0).all(0, True)),
    "count": lambda a, b: (a.count_nonzero(), a.count_nonzero(1), (a > 0).sum(), (a > 0).sum(1)),
    "extremes": lambda a, b: (
        a.argmax(), a.argmax(1), a.argmin(0, keepdim=True), a.max(1).indices, a.min(0)[1],
        a.argsort(1), a.argsort(0, descending=True), a.sort(1).indices, a.topk(2).indices,
        a.median(1).indices,
    ),
    "finite": lambda a, b: ((a / 0).isnan(), (a / 0).isinf(), a.isfinite(), (a / 0).nan_to_num(1)),
    "whole": lambda a, b: (a // b, a % b, (a // 1).long() // 3, (a * 10).long() % 3),
    "nonzero": lambda a, b: (a.nonzero(), *library(a).where(a > 0)),
    "unique": lambda a, b: (a.unique(), a.sign().unique()),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_results_without_gradients(name):
    a, b = np.round(random(3, 4), 1), np.round(random(3, 4, seed=1), 1)
    b[0] = a[0]
    a[1, 2] = 0
    if name == "extremes":
        a = random(3, 4)
    both(QUESTIONS[name], a, b)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding(mode):
    check(
        lambda a: a.pad((1, 2), mode=mode),
        lambda a: F.pad(a, (1, 2), mode=mode),
        random(2, 3, 4),
    )


def test_negative_padding_cuts():
    def f(a):
        pad = Tensor.pad if isinstance(a, Tensor) else F.pad
        return pad(a, (-1, 2, 1, -1), value=3.0)

    check(f, f, random(2, 3, 4))
    check_higher(f, random(2, 3, 4))


CORNERS = {
    "sqrt of zero, hidden": lambda a: a.relu().sqrt(),
    "log, hidden": lambda a: library(a).where(a > 0, a, library(a).ones_like(a)).log(),
    "norm of zeros": lambda a: (a * 0).norm(),
    "std of equals": lambda a: (a * 0 + 1).std(),
    "abs of zero": lambda a: a.abs(),
    "zero to powers": lambda a: a**0 + a**1 + a**2 + a**3,
    "masked infinity": lambda a: a.masked_fill(a < 1, -math.inf).softmax(0),
    "equal maxima": lambda a: library(a).maximum(a, a * 0) + a.max(),
    "clamp at its ends": lambda a: a.clamp(0, 2) + a.clamp(min=0),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners_of_slopes(name):
    a = np.array([-1.0, 0.0, 2.0, 2.0])
    x, theirs = Tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    CORNERS[name](x).sum().backward()
    CORNERS[name](theirs).sum().backward()
    np.testing.assert_allclose(x.grad.data, theirs.grad.numpy())


@pytest.mark.parametrize("size", [100, 20_000])
def test_large_results_equal_small_ones(size):
    """Large arrays take other ways through memory than small ones."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(size // 10, 10)).astype(np.float32) for _ in range(2))
    a[0, 0], a[1, 1] = np.nan, np.inf

    def f(a, b):
        lib = library(a)
        y = a * b + a - b / 2 + a.relu() + (-a).exp().clamp(max=5) + lib.where(a > b, a, b)
        return y + a.square() + a * b[0] + b[0] * a + a.masked_fill(b > 0, 1) + a.T.relu().T

    results = []
    for make in (Tensor, torch.tensor):
        x, y = make(a, requires_grad=True), make(b, requires_grad=True)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            z = f(x, y)
            z.sum().backward()
        results.append([t.detach().numpy() for t in (z, x.grad, y.grad)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-4)
