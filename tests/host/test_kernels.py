"""The layers' operations against PyTorch's, over random shapes; and in every order in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracles import oracle
from tinytorch import ops
from tinytorch.ops import compiled

torch = oracle("torch", "oracle")
functional = torch.nn.functional
Arrays = tuple[np.ndarray | None, ...]


@pytest.fixture(autouse=True, params=["numpy", "numba"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    before = compiled.enabled()
    compiled.enable(request.param == "numba")
    yield request.param
    compiled.enable(before)


# One switch for all examples of a test is what is wanted.
def several(examples: int) -> Callable[[Any], Any]:
    return settings(
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def numbers(rng: np.random.Generator, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


def gradients_of(made: Any, arrays: Arrays, g: np.ndarray) -> list[np.ndarray | None]:
    """Those of the float arrays, as the tape asks for them."""
    parts = made(g) if callable(made) else [None if f is None else f(g) for f in made]
    floats = [a is not None and a.dtype.kind == "f" for a in arrays]
    return [p if wanted else None for p, wanted in zip(parts, floats, strict=True)]


def agree(op: Any, theirs: Any, arrays: Arrays, **set_to: Any) -> None:
    """Values and gradients, as float64 and as float32."""
    for dtype, close in ((np.float64, 1e-9), (np.float32, 2e-4)):
        ours = [
            a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in arrays
        ]  # fmt: skip
        tensors = [None if a is None else torch.tensor(a) for a in ours]
        for t in tensors:
            if t is not None and t.is_floating_point():
                t.requires_grad_()
        expected = theirs(*tensors)
        y, made = op(*ours, **set_to)
        assert y.dtype == dtype and y.shape == tuple(expected.shape)
        same = {"rtol": close, "atol": close * 10}
        np.testing.assert_allclose(y, expected.detach().numpy(), **same)
        g = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
        kept = g.copy()
        expected.backward(torch.tensor(g))
        for a, t, part in zip(ours, tensors, gradients_of(made, ours, g), strict=True):
            if t is None or t.grad is None:
                continue
            assert part is not None and part.dtype == dtype
            part = np.asarray(part).reshape(a.shape)
            np.testing.assert_allclose(part, t.grad.numpy(), **same)
        np.testing.assert_array_equal(g, kept)  # nobody wrote into it


def orders(a: np.ndarray) -> list[np.ndarray]:
    """The array in several orders in memory."""
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)
    apart = np.empty((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)[..., ::2]
    apart[...] = a
    return [a, last, np.asfortranarray(a), apart]


def same_in_all_orders(op: Any, x: np.ndarray, *rest: Any, **set_to: Any) -> None:
    y, made = op(x, *rest, **set_to)
    g = numbers(np.random.default_rng(2), *y.shape, dtype=y.dtype)
    parts = gradients_of(made, (x, *rest), g)
    for other, other_g in zip(orders(x), orders(g), strict=True):
        other_y, made = op(other, *rest, **set_to)
        np.testing.assert_array_equal(y, other_y)
        for part, again in zip(parts, gradients_of(made, (x, *rest), other_g), strict=True):
            if part is not None:
                np.testing.assert_array_equal(part, again)


def relu_fuses(op: Any, *arrays: Any, copies: Callable[[], Any] = tuple, **set_to: Any) -> None:
    """relu=True is relu after, to the bit."""
    y, made = op(*arrays, *copies(), **set_to)
    after, (of_y,) = ops.relu(y)
    fused, fused_made = op(*arrays, *copies(), **set_to, relu=True)
    np.testing.assert_array_equal(after, fused)
    g = numbers(np.random.default_rng(2), *y.shape, dtype=y.dtype)
    parts = gradients_of(made, (*arrays, *copies()), of_y(g))
    again = gradients_of(fused_made, (*arrays, *copies()), g)
    for part, other in zip(parts, again, strict=True):
        if part is not None:
            np.testing.assert_array_equal(part, other)


@st.composite
def convolutions(draw: Any) -> tuple[np.random.Generator, tuple, tuple, dict[str, Any]]:
    """A source of chance, the shapes of x and weight, the settings."""
    dims = draw(st.integers(1, 2))
    some = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(dims))  # noqa: E731
    kernel, stride, padding, dilation = some(1, 4), some(1, 3), some(0, 3), some(1, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [
        max(1, r - 2 * p) + draw(st.integers(0, 6)) for r, p in zip(reach, padding, strict=True)
    ]
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    each, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    batch = draw(st.sampled_from([0, 1, 2, 5]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    set_to = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return rng, (batch, each * groups, *size), (filters * groups, each, *kernel), set_to


@several(20)
@given(convolutions(), st.booleans())
def test_conv(case, with_bias):
    rng, shape, weight_shape, set_to = case
    x, weight = numbers(rng, *shape), numbers(rng, *weight_shape)
    bias = numbers(rng, weight_shape[0]) if with_bias else None
    theirs = functional.conv1d if x.ndim == 3 else functional.conv2d
    agree(ops.conv, lambda *a: theirs(*a, **set_to), (x, weight, bias), **set_to)
    same_in_all_orders(ops.conv, x.astype(np.float32), weight.astype(np.float32), None, **set_to)
    relu_fuses(ops.conv, x, weight, bias, **set_to)


@pytest.mark.parametrize("groups", [1, 4, 64])
def test_conv_of_a_common_size(groups):
    """Large enough for every short cut."""
    rng = np.random.default_rng(0)
    x, weight = numbers(rng, 10, 64, 8, 5), 0.1 * numbers(rng, 64, 64 // groups, 3, 3)
    set_to = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": groups}
    arrays = (x, weight, numbers(rng, 64))
    agree(ops.conv, lambda *a: functional.conv2d(*a, **set_to), arrays, **set_to)
    relu_fuses(ops.conv, *[a.astype(np.float32) for a in arrays], **set_to)


@st.composite
def pools(draw: Any) -> tuple[np.ndarray, dict[str, Any]]:
    dims = draw(st.integers(1, 2))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(dims))
    stride = tuple(draw(st.integers(1, 4)) for _ in range(dims))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = [k + draw(st.integers(0, 6)) for k in kernel]
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = numbers(rng, draw(st.sampled_from([0, 1, 3])), draw(st.integers(1, 4)), *size)
    return x, {"kernel": kernel, "stride": stride, "padding": padding}


@several(20)
@given(pools(), st.booleans())
def test_max_pool(case, ties):
    x, set_to = case
    x = np.round(x) if ties else x
    theirs = functional.max_pool1d if x.ndim == 3 else functional.max_pool2d
    named = (set_to["kernel"], set_to["stride"], set_to["padding"])
    if x.size or x.ndim == 4:  # PyTorch's own max_pool1d refuses an empty batch
        agree(ops.max_pool, lambda a: theirs(a, *named), (x,), **set_to)
    same_in_all_orders(ops.max_pool, x.astype(np.float32), **set_to)


def test_max_pool_keeps_nan():
    x = np.array([[[1.0, np.nan, 0.5, 2.0]]], np.float32)
    y, _ = ops.max_pool(x, kernel=(2,), stride=(2,), padding=(0,))
    np.testing.assert_array_equal(y, [[[np.nan, 2]]])


def test_max_pool_with_a_large_kernel():
    x = numbers(np.random.default_rng(0), 2, 3, 20, 20)
    set_to = {"kernel": (19, 17), "stride": (1, 3), "padding": (2, 3)}
    agree(ops.max_pool, lambda a: functional.max_pool2d(a, *set_to.values()), (x,), **set_to)


@several(25)
@given(pools())
def test_avg_pool(case):
    x, set_to = case
    theirs = functional.avg_pool1d if x.ndim == 3 else functional.avg_pool2d
    named = (set_to["kernel"], set_to["stride"], set_to["padding"])
    if x.size or x.ndim == 4:
        agree(ops.avg_pool, lambda a: theirs(a, *named), (x,), **set_to)
    same_in_all_orders(ops.avg_pool, x.astype(np.float32), **set_to)


@several(20)
@given(pools(), st.data())
def test_adaptive_avg_pool(case, data):
    x, _ = case
    size = tuple(data.draw(st.sampled_from([1, 2, 3, n])) for n in x.shape[2:])
    theirs = functional.adaptive_avg_pool1d if x.ndim == 3 else functional.adaptive_avg_pool2d
    if x.size:
        agree(ops.adaptive_avg_pool, lambda a: theirs(a, size), (x,), size=size)


@several(25)
@given(
    st.lists(st.sampled_from([0, 1, 2, 5]), max_size=2), st.integers(0, 5), st.integers(1, 5),
    st.booleans(),
)  # fmt: skip
def test_linear(batch, features, out, with_bias):
    rng = np.random.default_rng(0)
    x, weight = numbers(rng, *batch, features), numbers(rng, out, features)
    bias = numbers(rng, out) if with_bias else None
    agree(ops.linear, functional.linear, (x, weight, bias))
    relu_fuses(ops.linear, x, weight, bias)


def test_linear_of_many_rows():
    rng = np.random.default_rng(0)
    arrays = numbers(rng, 320, 7), numbers(rng, 5, 7), numbers(rng, 5)
    agree(ops.linear, functional.linear, arrays)
    relu_fuses(ops.linear, *[a.astype(np.float32) for a in arrays])


@several(20)
@given(
    st.sampled_from([(4, 3), (2, 3, 5), (32, 8, 6, 5), (3, 1, 1, 2), (320, 2)]), st.booleans(),
    st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0.1, None, 1.0]),
)  # fmt: skip
def test_batch_norm(shape, training, affine, with_bias, tracked, momentum):
    rng = np.random.default_rng(0)
    x = 3 * numbers(rng, *shape) + 5
    c = shape[1]
    weight = numbers(rng, c) if affine else None
    bias = numbers(rng, c) if affine and with_bias else None
    start = (numbers(rng, c), 1 + rng.random(c))
    told = {"training": training, "momentum": momentum, "eps": 1e-4}

    for dtype in (np.float64, np.float32):
        ours = [s.astype(dtype) if tracked else None for s in start]
        count = np.array(2) if tracked else None
        theirs = [torch.tensor(s) if s is not None else None for s in ours]
        factor = 1 / 3 if momentum is None else momentum

        def op(*a, ours=ours, count=count):
            return ops.batch_norm(*a, *ours, count, **told)

        arrays = [None if a is None else a.astype(dtype) for a in (x, weight, bias)]
        tensors = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
        expected = functional.batch_norm(
            tensors[0], *theirs, *tensors[1:], training or not tracked, factor, 1e-4
        )
        y, made = op(*arrays)
        close = {"rtol": 1e-8 if dtype == np.float64 else 1e-3, "atol": 1e-9}
        close["atol"] = 1e-8 if dtype == np.float64 else 2e-4
        np.testing.assert_allclose(y, expected.detach().numpy(), **close)
        g = numbers(np.random.default_rng(1), *shape, dtype=dtype)
        expected.backward(torch.tensor(g))
        for part, t in zip(made(g), [*tensors, None, None, None], strict=True):
            if t is not None:
                np.testing.assert_allclose(part, t.grad.numpy(), **close)
        if tracked:
            assert count == 2 + training
            for mine, his in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(mine, his.numpy(), **close)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (32, 8, 6, 5), (0, 3, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_fuses_and_takes_every_order(shape, training):
    rng = np.random.default_rng(0)
    x, weight, bias = (numbers(rng, *s, dtype=np.float32) for s in (shape, shape[1:2], shape[1:2]))
    if not len(x) and training:
        return  # nothing to take a mean of

    def state():
        return np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32), np.array(0)

    told = {"training": training, "momentum": 0.1, "eps": 1e-5}
    relu_fuses(ops.batch_norm, x, weight, bias, copies=state, **told)
    same_in_all_orders(
        lambda a: _only_x(ops.batch_norm(a, weight, bias, *state(), **told)), x
    )  # fmt: skip


def _only_x(result: Any) -> Any:
    y, gradients = result
    return y, (lambda g: gradients(g)[0],)


@several(25)
@given(
    st.sampled_from([(5,), (3, 4), (2, 3, 4), (0, 4), (32, 10, 8)]), st.integers(1, 2),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_layer_norm(shape, dims, affine, with_bias):
    dims = min(dims, len(shape))
    rng = np.random.default_rng(0)
    inner = shape[len(shape) - dims :]
    weight = numbers(rng, *inner) if affine else None
    bias = numbers(rng, *inner) if affine and with_bias else None

    def theirs(x, weight, bias):
        return functional.layer_norm(x, inner, weight, bias, 1e-4)

    agree(ops.layer_norm, theirs, (numbers(rng, *shape), weight, bias), dims=dims, eps=1e-4)


@several(25)
@given(st.sampled_from([(), (4,), (3, 4), (2, 0, 4), (2, 3, 4), (20, 30, 2)]), st.data())
def test_softmax(shape, data):
    dim = data.draw(st.integers(0, max(0, len(shape) - 1)))
    x = 50 * numbers(np.random.default_rng(0), *shape)
    agree(ops.softmax, lambda a: a.softmax(dim), (x,), dim=dim)
    agree(ops.log_softmax, lambda a: a.log_softmax(dim), (x,), dim=dim)


def test_softmax_with_minus_infinity():
    x = np.array([[0.0, -np.inf, 1.0]])
    agree(ops.softmax, lambda a: a.softmax(1), (x,), dim=1)


@several(20)
@given(
    st.sampled_from([0, 1, 3, 40]), st.integers(1, 6), st.sampled_from(["mean", "sum", "none"]),
    st.sampled_from([0.0, 0.1, 1.0]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_cross_entropy(rows, classes, reduction, smoothing, weighted, ignoring):
    rng = np.random.default_rng(0)
    x, target = 3 * numbers(rng, rows, classes), rng.integers(0, classes, rows)
    weight = rng.random(classes) + 0.1 if weighted else None
    if ignoring:
        target[::2] = -100
    told = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": -100}

    def theirs(x, target, weight):
        weight = None if weight is None else weight.detach()
        return functional.cross_entropy(x, target, weight, **told)

    agree(ops.cross_entropy, theirs, (x, target, weight), **told)


def test_cross_entropy_of_large_numbers():
    x, target = np.array([[1000.0, 0.0], [0.0, -np.inf]]), np.array([1, 0])
    told = {"reduction": "mean", "label_smoothing": 0.0, "ignore_index": -100}
    agree(
        ops.cross_entropy,
        lambda a, t, _: functional.cross_entropy(a, t),
        (x, target, None),
        **told,
    )


@pytest.mark.parametrize("wrong", [-1, 3])
def test_classes_and_indices_out_of_range(wrong):
    told = {"reduction": "mean", "label_smoothing": 0.0, "ignore_index": -100}
    with pytest.raises(ValueError, match=f"cross_entropy: class {wrong} is not one of 0 to 2"):
        ops.cross_entropy(np.zeros((2, 3)), np.array([0, wrong]), None, **told)
    with pytest.raises(ValueError, match=f"embedding: index {wrong} is not one of 0 to 2"):
        ops.embedding(np.zeros((3, 2)), np.array([[wrong]]))


@several(20)
@given(
    st.sampled_from([(), (2,), (2, 3), (0,)]), st.integers(1, 5), st.integers(1, 5),
    st.sampled_from([None, "bool", "float", "rows"]), st.booleans(),
)  # fmt: skip
def test_attention(batch, queries, keys, masked, causal):
    if causal and masked:
        masked = None  # PyTorch takes one of them
    rng = np.random.default_rng(0)
    q, k, v = (numbers(rng, *batch, n, d) for n, d in ((queries, 4), (keys, 4), (keys, 3)))
    mask: Any = {
        None: None,
        "bool": rng.random((queries, keys)) < 0.6,
        "rows": np.arange(queries * keys).reshape(queries, keys) >= keys,  # row 0 sees nothing
        "float": numbers(rng, *batch, queries, keys),
    }[masked]

    def theirs(q, k, v, mask):
        return functional.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=0.7)

    agree(ops.attention, theirs, (q, k, v, mask), scale=0.7, causal=causal)


def test_attention_takes_heads_apart():
    """Views of one product, as multi-head attention makes them."""
    rng = np.random.default_rng(0)
    whole = numbers(rng, 4, 16, 3, 2, 8, dtype=np.float32)
    q, k, v = (whole[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    y, made = ops.attention(q, k, v, None, scale=0.5, causal=True)
    copies = [np.ascontiguousarray(a) for a in (q, k, v)]
    expected, made_of_copies = ops.attention(*copies, None, scale=0.5, causal=True)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    g = numbers(rng, *y.shape, dtype=np.float32)
    for part, other in zip(made(g)[:3], made_of_copies(g)[:3], strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-4, atol=1e-5)


@several(25)
@given(
    st.sampled_from([(), (0,), (1,), (7,), (3, 5), (40, 9)]), st.integers(1, 6), st.booleans()
)  # fmt: skip
def test_embedding(shape, size, padded):
    rng = np.random.default_rng(0)
    weight, index = numbers(rng, size, 3), rng.integers(0, size, shape)
    row = size - 1 if padded else None

    def theirs(weight, index):
        return functional.embedding(index, weight, padding_idx=row)

    agree(ops.embedding, theirs, (weight, index), padding_idx=row)


def test_the_same_bits_every_time():
    rng = np.random.default_rng(0)
    x = numbers(rng, 32, 16, 9, 7, dtype=np.float32)
    weight, g = numbers(rng, 16, 1, 3, 3, dtype=np.float32), None
    told = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 16}
    seen = []
    for _ in range(3):
        y, made = ops.conv(x, weight, None, **told)
        g = numbers(np.random.default_rng(3), *y.shape, dtype=np.float32)
        seen.append([y.tobytes(), *[part(g).tobytes() for part in made[:2]]])
    assert seen[0] == seen[1] == seen[2]
