"""Changes in place: what PyTorch refuses is refused, or done right; all else has its gradients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch
from tests.oracles import oracle
from tinytorch.autograd.aliasing import changed
from tinytorch.autograd.creation import tensor
from tinytorch.autograd.tape import no_grad
from tinytorch.autograd.tensor import Tensor

torch = oracle("torch", "oracle")


def run(library, program):
    """The gradients of x and w after a program, or None where it is refused."""
    x = library.tensor(np.arange(1.0, 13).reshape(3, 4) / 7, requires_grad=True)
    w = library.tensor(np.linspace(-1, 1, 4), requires_grad=True)
    try:
        y = program(x * 1, w, library)
        (y * y).sum().backward()
    except RuntimeError:
        return None
    return [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in (x, w)]


def change(f):
    """A function that changes its first argument and returns it."""

    def program(x, w, library):
        f(x, w)
        return x

    return program


def used_before(x, w, library):
    z = x + w
    x *= 3
    return z + x


def needed_before(x, w, library):
    z = x * x
    x += 1
    return z


def result_needed(x, w, library):
    z = x.exp()
    z += 1
    return z


def result_not_needed(x, w, library):
    z = x + w
    z.mul_(2)
    return z


def sum_then_change(x, w, library):
    z = x.sum(0) + x.mean()
    x.zero_()
    return z + x.sum()


def base_changes_then_view(x, w, library):
    row = x[1]
    x *= w
    return row * 2 + x.sum(0)


def view_changes_then_base(x, w, library):
    row = x[1]
    row *= w
    return x * 3 + row


def views_of_views(x, w, library):
    a, b = x.t(), x[:, 1:3]
    b.mul_(w[0])
    a[2].add_(w[:3])
    return a.sum(0) @ x[:, 0] + b.sum() + x


def view_needed_before(x, w, library):
    row = x[0]
    z = row * row
    x[0] = 1.0
    return z


def another_row_changes(x, w, library):
    z = x[0] * x[0]
    x[1] = w
    return z + x


def a_reshape_changes(x, w, library):
    x.view(-1)[::2] *= 2
    return x


def rows_made_one_by_one(x, w, library):
    y = library.zeros(3, 4).double()
    for i in range(3):
        y[i] = x[i] * w * i
    return y


def elements_from_each_other(x, w, library):
    y = library.zeros(4).double()
    y[0] = x[0, 0]
    for i in range(3):
        y[i + 1] = (y[i] + w[i]).sin()
    return y


def a_view_of_plain_zeros(x, w, library):
    y = library.zeros(3, 4).double()
    row = y[2]
    row += w
    return y * x


def masked(x, w, library):
    x[x > 1] = 0.5
    x[:, w > 0] *= 3
    return x


def by_indices(x, w, library):
    x[[0, 2], [1, 3]] = w[:2]
    return x


def under_no_grad(x, w, library):
    with library.no_grad():
        x += 1
    return x * w


def needed_under_no_grad(x, w, library):
    z = x * w
    with library.no_grad():
        x += 1
    return z


def detached_changes(x, w, library):
    z = x * w
    x.detach().mul_(2)
    return z


def parameter_changes(x, w, library):
    z = x * w
    with library.no_grad():
        w -= 0.1
    return z


def parameter_of_a_sum_changes(x, w, library):
    z = x + w
    with library.no_grad():
        w -= 0.1
    return z


def a_leaf(x, w, library):
    w += 1
    return x * w


def a_view_of_a_leaf(x, w, library):
    w[0:2].mul_(2)
    return x * w


def an_item_of_a_leaf(x, w, library):
    w[0] = 2
    return x * w


def copied(x, w, library):
    x.copy_((x * 2 + w).expand(3, 4))
    return x


def with_itself(x, w, library):
    x *= x
    x += x
    return x


def with_a_part_of_itself(x, w, library):
    x *= x[0]
    return x


def overlapping(x, w, library):
    x[0] *= x[1]
    return x


def expanded(x, w, library):
    y = x[:, :1].expand(3, 4)
    y += 1
    return y


PROGRAMS = {f.__name__: f for f in (
    used_before, needed_before, result_needed, result_not_needed, sum_then_change,
    base_changes_then_view, view_changes_then_base, views_of_views, view_needed_before,
    another_row_changes, a_reshape_changes, rows_made_one_by_one, elements_from_each_other,
    a_view_of_plain_zeros, masked, by_indices, under_no_grad, needed_under_no_grad,
    detached_changes, parameter_changes, parameter_of_a_sum_changes, a_leaf, a_view_of_a_leaf,
    an_item_of_a_leaf, copied, with_itself, with_a_part_of_itself, overlapping, expanded,
)} | {name: change(f) for name, f in {
    "add_": lambda x, w: x.add_(w, alpha=2),
    "sub_": lambda x, w: x.sub_(w),
    "mul_": lambda x, w: x.mul_(w),
    "div_": lambda x, w: x.div_(w + 3),
    "pow_": lambda x, w: x.pow_(2),
    "clamp_": lambda x, w: x.clamp_(0.5, 1.2),
    "fill_": lambda x, w: x.fill_(2),
    "zero_": lambda x, w: x.zero_().add_(w),
    "masked_fill_": lambda x, w: x.masked_fill_(x > 1, 3.0),
    "relu_": lambda x, w: x.sub_(1).relu_(),
    "exp_": lambda x, w: x.exp_(),
    "sqrt_": lambda x, w: x.sqrt_(),
    "sigmoid_": lambda x, w: x.sigmoid_(),
    "tanh_": lambda x, w: x.tanh_(),
    "neg_": lambda x, w: x.neg_(),
    "addcmul_": lambda x, w: x.addcmul_(w, w, value=2),
    "lerp_": lambda x, w: x.lerp_(w.expand(3, 4), 0.25),
    "chain": lambda x, w: x.add_(1).mul_(w).sub_(2).div_(3),
    "item": lambda x, w: x.__setitem__((0, 1), w[2]),
    "slice": lambda x, w: x.__setitem__((slice(1), slice(1, 3)), w[:2]),
    "step": lambda x, w: x.__setitem__((..., slice(None, None, 2)), w[0]),
    "tuple": lambda x, w: x.__setitem__((None, 1), w * 2),
}.items()}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_changes_in_place_as_in_pytorch(name):
    ours, theirs = run(tinytorch, PROGRAMS[name]), run(torch, PROGRAMS[name])
    assert (ours is None) == (theirs is None)
    if ours is not None:
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9)


VIEWS = {
    "row": lambda t: t[0],
    "rest": lambda t: t[1:],
    "steps": lambda t: t[..., ::2],
    "t": lambda t: t.transpose(0, -1),
    "flat": lambda t: t.reshape(-1),
    "all": lambda t: t[:],
}
RESULTS = {
    "sin": lambda t: t.sin(),
    "sum": lambda t: t.sum(0, keepdim=True) / 2,
    "add": lambda t: t + 1,
    "square": lambda t: t * t / 2,
    "tanh": lambda t: t.tanh(),
    "clone": lambda t: t.clone(),
}
CHANGES = {
    "add": lambda t, v: t.add_(v),
    "mul": lambda t, v: t.mul_(v),
    "sin": lambda t, v: t.copy_(t.sin()),
    "sigmoid": lambda t, v: t.sigmoid_(),
    "zero": lambda t, v: t.zero_(),
    "first": lambda t, v: t.__setitem__(0, v),
    "steps": lambda t, v: t.__setitem__((..., slice(None, None, 2)), v),
}
steps = st.lists(
    st.tuples(
        st.sampled_from([*[("view", n) for n in VIEWS], *[("result", n) for n in RESULTS],
                         *[("change", n) for n in CHANGES] * 2]),
        st.integers(0, 9), st.integers(0, 3),
    ),
    min_size=2, max_size=9,
)  # fmt: skip


def perform(x, w, program):
    """A loss of all tensors that a program makes; each step works on one that is there."""
    tensors = [x * 1, x.sin()]
    for (kind, name), at, which in program:
        t = tensors[at % len(tensors)]
        if t.ndim == 0 or 0 in t.shape:
            continue
        if kind == "change":
            CHANGES[name](t, w[which])
        else:
            tensors.append((VIEWS if kind == "view" else RESULTS)[name](t))
    return sum((t.cos() * (i + 1)).sum() for i, t in enumerate(tensors))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(program=steps)
def test_no_program_gets_a_wrong_gradient_in_silence(program):
    arrays = np.arange(1.0, 13).reshape(3, 4) / 7, np.linspace(-1, 1.5, 4)
    results = []
    for library in (tinytorch, torch):
        inputs = [library.tensor(a, requires_grad=True) for a in arrays]
        try:
            perform(*inputs, program).backward()
        except RuntimeError:
            results.append(None)
        else:
            results.append([
                np.zeros(tuple(t.shape)) if t.grad is None else t.grad.numpy() for t in inputs
            ])  # fmt: skip
    ours, theirs = results
    if theirs is not None:
        assert ours is not None
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9)
    elif ours is not None:  # then it has to be right: by differences
        ahead = [np.random.default_rng(i).normal(size=a.shape) for i, a in enumerate(arrays)]

        def at(step):
            moved = [Tensor(a + step * d) for a, d in zip(arrays, ahead, strict=True)]
            return perform(*moved, program).item()

        slope = sum((g * d).sum() for g, d in zip(ours, ahead, strict=True))
        assert abs((at(1e-6) - at(-1e-6)) / 2e-6 - slope) <= 1e-5 * (1 + abs(slope))


def test_errors_name_the_operation_and_the_shape():
    x = tensor(np.ones((2, 3)), requires_grad=True)
    y = x * 1
    z = y.exp() * y
    y += 1
    with pytest.raises(RuntimeError, match=r"mul .*\(2, 3\).*changed in place"):
        z.sum().backward()
    with pytest.raises(RuntimeError, match=r"add_: .*no_grad"):
        x.add_(1)
    with pytest.raises(RuntimeError, match=r"\[\]=: .*no_grad"):
        x[0] = 1
    with pytest.raises(RuntimeError, match=r"zero_: .*no_grad"):
        x[0].zero_()
    with pytest.raises(RuntimeError, match=r"mul_: .*\(2, 3\).*clone"):
        tinytorch.ones(2, 1).expand(2, 3).mul_(2)
    with pytest.raises(ValueError, match=r"\+=: shape \(2, 3\) does not fit into \(3,\)"):
        small = tinytorch.ones(3)
        small += tinytorch.ones(2, 3)
    with pytest.raises(RuntimeError, match=r"\*=: float32 does not fit into int64"):
        whole = tensor([1, 2])
        whole *= 1.5
    with pytest.raises(ValueError, match=r"\[\]=: shape \(3,\) .*\(2, 3\)"):
        tinytorch.ones(2, 3)[:, :2] = tinytorch.ones(3)
    with pytest.raises(IndexError, match=r"\[\]=: shape \(2, 3\)"):
        tinytorch.ones(2, 3)[5] = 1


def test_writers_of_arrays_count_their_change():
    w = tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    w.data -= 1
    changed(w.data)
    with pytest.raises(RuntimeError, match="mul .*changed in place"):
        loss.backward()
    assert w.grad is None  # nothing was done by halves


def test_neighbours_in_one_buffer_do_not_disturb_each_other():
    """An optimizer keeps all parameters in one array."""
    both = np.ones(4, np.float32)
    a, b = Tensor(both[:2], requires_grad=True), Tensor(both[2:], requires_grad=True)
    loss = (a * a).sum()
    with no_grad():
        b *= 2
    loss.backward()
    assert a.grad.tolist() == [2, 2] and both.tolist() == [1, 1, 2, 2]


def test_many_changes_of_parts_are_remembered():
    x = tensor(np.arange(1000.0), requires_grad=True)
    y = x * 1
    z = y * y
    with no_grad():
        for i in range(200):
            y[i : i + 1].add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        z.sum().backward()


def test_a_long_row_of_changes_keeps_no_copies():
    x = tensor(np.ones(1000), requires_grad=True)
    y = x * 1
    for _ in range(5):
        y += 1
        y *= 0.5
    y.sum().backward()
    assert x.grad.tolist() == [0.5**5] * 1000
    past = y
    while past._before is not None:
        past = past._before
        assert past.data.strides == (0,)


def test_views_share_memory_and_copies_do_not():
    x = tinytorch.arange(12).reshape(3, 4)
    same = [
        x.view(-1), x.reshape(4, 3), x[1], x[:, ::2], x.t(), x.permute(1, 0), x.unsqueeze(0),
        x.expand(2, 3, 4), x.diagonal(), x.split(2)[0], x.chunk(2, 1)[1], x.unbind()[2],
        x.detach(), x.narrow(1, 1, 2), x.flatten(), x.squeeze(), x.contiguous(), x.long(),
    ]  # fmt: skip
    copies = [
        x.clone(), x[[0, 1]], x[x > 3], x.flip(0), x.t().contiguous(), x.t().reshape(-1), x.float(),
        x.repeat(1, 1), tinytorch.cat([x]), tensor(x), x.roll(1, 0), x.tril(),
    ]  # fmt: skip
    assert all(np.shares_memory(t.data, x.data) for t in same)
    assert not any(np.shares_memory(t.data, x.data) for t in copies)


def test_what_a_view_cannot_be():
    x = tinytorch.arange(12).reshape(3, 4)
    theirs = torch.arange(12).reshape(3, 4)
    for f in (
        lambda t: t.t().view(-1), lambda t: t[:, :2].view(-1), lambda t: t.expand(2, 3, 4).view(-1),
        lambda t: t.t().unsqueeze(0).view(12), lambda t: t[:, ::3].view(6),
    ):  # fmt: skip
        with pytest.raises(RuntimeError):
            f(theirs)
        with pytest.raises(RuntimeError, match="view: shape .* reshape"):
            f(x)
    for f in (
        lambda t: t[1:].view(-1), lambda t: t.t().view(2, 2, 3), lambda t: t[:, :2].view(3, 2, 1),
        lambda t: t.view(2, -1).view(-1), lambda t: t[1].view(2, 2), lambda t: t[0:0].view(0, 7),
    ):  # fmt: skip
        assert f(x).tolist() == f(theirs).tolist()
    image = tinytorch.ones(2, 3, 5, 5).conv2d(tinytorch.ones(4, 3, 3, 3))
    assert image.view(2, -1).shape == (2, 36)  # however the kernel lays it out
    assert x.t().is_contiguous() == theirs.t().is_contiguous() and x[1:].is_contiguous()


def test_a_view_keeps_its_relatives_only_as_long_as_they_live():
    w = tensor(np.ones((2, 2)), requires_grad=True)
    for _ in range(1000):
        w.t().sum()
    assert len(w._aliases.members) < 100


TYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(dtype=st.sampled_from(TYPES), other=st.sampled_from(TYPES))
def test_types_stay_in_place(dtype, other):
    results = []
    for library in (tinytorch, torch):
        t = library.ones(3, dtype=getattr(library, dtype))
        v = library.ones(3, dtype=getattr(library, other))
        try:
            t += v
        except RuntimeError:
            results.append(None)
        else:
            results.append((str(t.dtype).removeprefix("torch."), t.tolist()))
        t[0] = v[0]  # converts, whatever it is
        results.append((str(t.dtype).removeprefix("torch."), t.tolist()))
    assert results[:2] == results[2:]
