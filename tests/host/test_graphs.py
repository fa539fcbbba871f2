"""Networks with branches: followed, folded, quantized, streamed, and the same bytes everywhere."""

from dataclasses import replace

import numpy as np
import pytest

from tests.networks import InvertedResidual, ResNet8, SqueezeExcite, fill
from tests.operations import Reference
from tests.streams import random_case as random_stream
from tinytorch import Tensor, cat, nn, no_grad
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.nn import functional as F
from tinytorch.qops import kernels as numpy_kernels
from tinytorch.quantize.calibrate import quantize, quantize_nodes
from tinytorch.quantize.flow import DataFlow
from tinytorch.quantize.fold import fold
from tinytorch.quantize.ir import INPUT
from tinytorch.quantize.operations import KINDS
from tinytorch.quantize.run_float import run_float
from tinytorch.quantize.run_integers import run_integers
from tinytorch.quantize.streaming import stream
from tinytorch_core import qops
from tinytorch_core.model import ADD, LOGISTIC, MAX_POOL, MOVE, MUL


def mobile() -> nn.Module:
    """MobileNetV2's blocks with an attention over channels, and a SiLU."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), InvertedResidual(6, 6), InvertedResidual(6, 8, 2), nn.SiLU(),
        SqueezeExcite(8, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


class Functional(nn.Module):
    """A net in functions, whose branches read one output before and after its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 4, 3, padding=1), nn.Conv1d(4, 4, 1)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        a = self.first(x)
        b = F.relu(a)
        y = self.second(b) * b.sigmoid() + a
        return self.last(F.max_pool1d(F.relu6(y), 2).mean(-1))


NETS = {
    "resnet8": (lambda: ResNet8(10, 8), (3, 16, 16)),
    "mobile": (mobile, (2, 12, 10)),
    "functional": (Functional, (3, 16)),
}


def made(name: str, dtype=np.float32):
    build, shape = NETS[name]
    net = build().to(dtype)
    fill(net, np.random.default_rng(1))
    return net.eval(), shape


def samples(shape, n: int, dtype=np.float32):
    return np.random.default_rng(2).normal(0, 1, (n, *shape)).astype(dtype)


def forward(net, x):
    with no_grad():
        return net(Tensor(x)).numpy()


@pytest.mark.parametrize("name", NETS)
def test_folding_keeps_a_branched_networks_function(name):
    net, shape = made(name, np.float64)
    x = samples(shape, 4, np.float64)
    y = run_float(fold(net, shape), np.moveaxis(x, 1, -1))[-1]
    np.testing.assert_allclose(y.reshape(4, -1), forward(net, x), rtol=1e-9, atol=1e-9)


def test_each_node_has_its_layers_path():
    nodes = fold(made("resnet8")[0], (3, 16, 16))
    assert [node.name for node in nodes][:4] == [
        "stem.0 Conv2d", "stages.0.conv1 Conv2d", "stages.0.conv2 Conv2d", "stages.0 add",
    ]  # fmt: skip
    assert sum(node.kind == ADD for node in nodes) == 3
    assert all(node.low == 0 for node in nodes if node.kind == ADD)  # its ReLU is folded in


def test_a_relu_that_shares_its_input_stands_alone():
    kinds = [node.kind for node in fold(*made("functional"))]
    assert kinds.count(MAX_POOL) == 2 and {MUL, LOGISTIC, ADD} <= {*kinds}


@pytest.mark.parametrize("tier", ["exact", "lane"])
@pytest.mark.parametrize("name", NETS)
def test_a_branched_network_in_integers(name, tier):
    net, shape = made(name)
    x = samples(shape, 120)
    quantized = quantize(net, x, name=name, labels=[], tier=tier)
    q = quantized.input.of(np.moveaxis(x, 1, -1))
    data = to_bytes(quantized, q[:2])
    model = Model(data)
    y = model.run_batch(q).reshape(len(x), -1)
    # The specification in plain Python gives the same bytes.
    np.testing.assert_array_equal(Reference(data).run_batch(q[:1]).reshape(1, -1), y[:1])
    real = forward(net, x)
    error = (y.astype(float) - quantized.output.zero_point) * quantized.output.scale - real
    assert 10 * np.log10(real.var() / (error**2).mean()) > (20 if tier == "exact" else 12)


class Streamed(nn.Module):
    """Branches whose rows of time meet again, with 3 and 1 + 3 of them on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, (3, 3), padding=(0, 1))
        self.long = nn.Sequential(nn.Conv2d(4, 4, (3, 1)), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.short = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.MaxPool2d((3, 1), 1))
        self.block = InvertedResidual(4, 4, time=1)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        y = self.long(x) * self.short(x)
        return self.last(self.block(y).mean((2, 3)))


@pytest.mark.parametrize("tier", ["exact", "lane"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_stream_of_a_branched_network_equals_its_window(step, tier):
    net = Streamed()
    fill(net, np.random.default_rng(3))
    rows, values = 14, 5
    x = samples((1, rows, values), 60)
    window = quantize(net, x, name="s", labels=[], tier=tier)
    stepped = stream(window, step)
    model = Model(to_bytes(stepped))
    steps = 20
    q = np.random.default_rng(4).integers(-128, 128, (2, steps * step, values, 1)).astype(np.int8)
    y = model.run_stream(q.reshape(2, steps, step, values, 1))
    whole = Model(to_bytes(window))
    for i in range(-(-rows // step), steps + 1):
        last = q[:, i * step - rows : i * step] if i * step >= rows else None
        if last is not None:
            np.testing.assert_array_equal(y[:, i - 1], whole.run_batch(last))


def test_branches_that_differ_in_time_take_no_stream():
    class Uneven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fast, self.slow = nn.Conv2d(1, 2, (2, 1), (2, 1)), nn.Conv2d(1, 2, (5, 1))

        def forward(self, x):
            return (self.fast(x) + self.slow(x)).mean((2, 3))

    net = Uneven()
    fill(net, np.random.default_rng(0))
    quantized = quantize(net, samples((1, 8, 3), 9), name="u", labels=[])
    with pytest.raises(ValueError, match=r"^Layer add joins branches of 4 and 4 rows of time "):
        stream(quantized, 2)


class Refused(nn.Module):
    """A block with one more operation, which no kit has."""

    def __init__(self, function) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 1)))
        self.function = function

    def forward(self, x):
        return self.function(self.features(x))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: cat([x, x], 1), "Layer cat cannot run on a kit"),
        (lambda x: x.sin(), "Layer sin cannot run"),
        (lambda x: x * 2.0, "Layer mul mixes its input with constants"),
        (lambda x: x - x.relu(), "Layer sub cannot run"),
        (lambda x: x.permute(0, 2, 3, 1), "Layer permute cannot run"),
        (lambda x: x.reshape(1, 4, -1), r"Layer reshape makes \(1, 4, 6\) of"),
        (lambda x: x.mean(1), "Layer mean takes a mean that is not over all positions"),
        (lambda x: x + x.mean((2, 3), True), r"Layer add adds \(2, 3, 4\) and \(2, 1, 1\)"),
        (lambda x: x.flatten(1).softmax(-1), "Layer softmax cannot run"),
        (lambda x: (x, x), "The network gives 2 outputs"),
        (lambda x: Tensor(x.data * 2), "The network's output does not come from its input"),
    ],
)
def test_what_cannot_be_followed_is_named(function, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        fold(Refused(function), (2, 3, 4))


def test_a_layer_inside_is_named_by_its_path():
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Sequential(InvertedResidual(4, 4), nn.GELU()))
    with pytest.raises(ValueError, match=r"^Layer 1\.1 GELU cannot run on a kit: use Conv, "):
        fold(net, (2, 5, 5))
    net = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(9, 2)))
    with pytest.raises(ValueError, match=r"^Layer 0\.1 Linear does not take its input: "):
        fold(net, (2, 5, 5))


class Changes(nn.Module):
    """ResNet as many write it: sums in place."""

    def __init__(self, view: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.view = view

    def forward(self, x):
        x = self.first(x)
        y = self.second(x)
        rows = y.transpose(2, 3) if self.view else None  # it shares the memory of y
        y += x
        y.relu_()
        return y.mean((2, 3)) if rows is None else rows.transpose(2, 3).mean((2, 3))


def test_changes_in_place_are_followed():
    net = Changes().double()
    fill(net, np.random.default_rng(0))
    x = samples((2, 5, 4), 3, np.float64)
    nodes = fold(net, (2, 5, 4))
    assert [node.kind for node in nodes][2] == ADD and nodes[2].low == 0
    y = run_float(nodes, np.moveaxis(x, 1, -1))[-1]
    np.testing.assert_allclose(y.reshape(3, -1), forward(net, x), rtol=1e-9, atol=1e-9)
    with pytest.raises(
        ValueError, match="^Layer forward reads a tensor that was changed in place "
    ):
        fold(Changes(view=True).double(), (2, 5, 4))


def test_a_network_of_two_inputs_is_refused():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv1d(2, 2, 1)

        def forward(self, x, y):
            return self.layer(x) + y

    with pytest.raises(ValueError, match=r"^The network does not run on one input \(1, 2, 3\): "):
        fold(Two(), (2, 3))


def test_following_leaves_the_net_as_it_was():
    net = made("mobile")[0].train()
    before = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    fold(net, (2, 12, 10))
    assert all(module.training for module in net.modules())
    assert all("forward" not in vars(module) for module in net.modules())
    for name, t in net.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


def test_an_unknown_kind_is_refused_where_it_is_met():
    net = nn.Sequential(nn.Conv2d(2, 3, 1))
    nodes = fold(net, (2, 4, 4))
    unknown = [replace(nodes[0], kind=77)]
    x = np.moveaxis(samples((2, 4, 4), 5), 1, -1)
    quantized = quantize_nodes(nodes, x, name="u", labels=[])
    operation = replace(quantized.operations[0], node=unknown[0])
    said = "^Layer 0 Conv2d is of the unknown kind 77: TinyTorch has conv "
    with pytest.raises(ValueError, match=said):
        run_float(unknown, x)
    with pytest.raises(ValueError, match=said):
        quantize_nodes(unknown, x, name="u", labels=[])
    with pytest.raises(ValueError, match=said):
        run_integers(operation, [quantized.input.of(x)])
    with pytest.raises(ValueError, match=said):
        to_bytes(replace(quantized, operations=[operation]))


def test_a_node_whose_shapes_contradict_each_other_is_refused():
    nodes = fold(net := nn.Sequential(nn.Conv2d(2, 3, 1), nn.MaxPool2d(2)), (2, 4, 4))
    assert len(nodes) == len(net)
    x = np.moveaxis(samples((2, 4, 4), 5), 1, -1)
    wrong = [nodes[0], replace(nodes[1], out_c=4)]
    with pytest.raises(ValueError, match="^Layer 1 MaxPool2d is a max pool, which does not make "):
        quantize_nodes(wrong, x, name="w", labels=[])


def test_the_table_has_a_row_for_every_kernel():
    assert {*KINDS} == {*numpy_kernels.KERNELS} == {*qops.KERNELS}


@pytest.mark.parametrize("name", NETS)
def test_a_files_records_tell_who_feeds_whom(name):
    net, shape = made(name)
    quantized = quantize(net, samples(shape, 30), name=name, labels=[])
    flow = DataFlow.of_nodes([operation.node for operation in quantized.operations])
    found = DataFlow.of_records(Model(to_bytes(quantized)).operations)
    assert found == flow
    for i, sources in enumerate(flow.sources):
        assert all(i in flow.readers(j) for j in sources)


@pytest.mark.parametrize("seed", range(20))
def test_the_records_of_a_stream_tell_who_feeds_whom(seed):
    case = random_stream(seed)
    ops = Model(to_bytes(case.stream)).operations
    found = DataFlow.of_records(ops).sources
    moves = [i for i, op in enumerate(ops) if op.kind == MOVE]
    layers = [i for i, op in enumerate(ops) if op.kind != MOVE]
    number = {INPUT: INPUT, **{i: n for n, i in enumerate(layers)}}
    expected = [operation.node.inputs for operation in case.stream.operations]
    assert [tuple(number[j] for j in found[i]) for i in layers] == expected
    kept = [n for n, operation in enumerate(case.stream.operations) if operation.kept]
    assert [number[found[i][0]] for i in moves] == [*kept, *[INPUT] * (case.stream.kept > 0)]


def test_records_that_read_parts_of_outputs_are_refused():
    net, shape = made("resnet8")
    ops = Model(to_bytes(quantize(net, samples(shape, 9), name="r", labels=[]))).operations
    ops[5].x += 1
    with pytest.raises(ValueError, match="^Operation 5 of the model reads bytes that are not "):
        DataFlow.of_records(ops)
