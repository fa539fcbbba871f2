from collections import OrderedDict

from tinytorch_core import nn
from tinytorch_core.tensor import ones, tensor, zeros


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(ones((1,)))
        self.body = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU())
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return self.head(self.body(x).mean(-1)) * self.scale


NAMES = [
    "scale", "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias",
    "body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked", "head.weight",
]  # fmt: skip


def error(function, *parts):
    try:
        function()
    except ValueError as e:
        for part in parts:
            assert part in str(e), str(e)
    else:
        raise AssertionError("no error")


def test_names_are_in_order():
    net = Two()
    assert list(net.state_dict().keys()) == NAMES
    assert [n for n, _ in net.named_parameters()] == [
        n for n in NAMES if ".running" not in n and "num" not in n
    ]
    assert [n for n, _ in net.named_buffers()] == NAMES[5:8]
    assert [n for n, _ in net.named_modules()] == ["", "body", "body.0", "body.1", "body.2", "head"]
    assert len(list(net.parameters())) == 6 and len(list(net.children())) == 2


def test_state_dict_moves_a_network():
    a, b = Two(), Two()
    x = zeros((2, 2, 8)).uniform_(-1, 1)
    a(x)  # moves the running statistics
    b.load_state_dict(a.state_dict())
    assert a.eval()(x).tolist() == b.eval()(x).tolist()
    assert b.body[1].num_batches_tracked.item() == 1


def test_a_state_that_does_not_fit_changes_nothing():
    net = Two()
    before = net.head.weight.tolist()
    state = dict(Two().state_dict())
    state["scale"] = ones((2,))
    error(lambda: net.load_state_dict(state), "scale", "(1,)", "(2,)")
    del state["scale"]
    state["more"] = ones((1,))
    error(lambda: net.load_state_dict(state), "missing scale", "unexpected more")
    assert net.head.weight.tolist() == before


def test_train_and_eval_reach_all_modules():
    net = Two()
    assert all(not m.training for m in net.eval().modules())
    assert all(m.training for m in net.train().modules())


def test_initial_weights_are_within_their_bound():
    layer = nn.Conv2d(4, 8, 5)
    bound = 1 / (4 * 25) ** 0.5
    values = list(layer.weight.data)
    assert 0.8 * bound < max(values) <= bound and -bound <= min(values) < -0.8 * bound


def test_linear():
    layer = nn.Linear(2, 3)
    layer.weight.copy_(tensor([[1, 0], [0, 1], [1, 1]]))
    layer.bias.copy_(tensor([0, 0, 10]))
    assert layer(tensor([[1, 2]])).tolist() == [[1, 2, 13]]


def test_shapes_of_layers():
    x = zeros((2, 4, 8, 6)).uniform_()
    assert nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4)(x).shape == (2, 8, 4, 3)
    assert nn.MaxPool2d(2)(x).shape == nn.AvgPool2d(2)(x).shape == (2, 4, 4, 3)
    assert nn.AdaptiveAvgPool2d(1)(x).shape == (2, 4, 1, 1)
    assert nn.Flatten()(x).shape == (2, 192)
    signal = x[:, :, 0]
    assert nn.MaxPool1d(2)(signal).shape == nn.AvgPool1d(2)(signal).shape == (2, 4, 3)
    assert nn.AdaptiveAvgPool1d(1)(signal).shape == (2, 4, 1)
    assert nn.BatchNorm2d(4)(x).shape == x.shape


def test_activations_and_norms():
    x = zeros((2, 4)).uniform_(-3, 3)
    net = nn.Sequential(
        nn.ReLU6(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.Hardswish(),
        nn.Hardsigmoid(), nn.LeakyReLU(), nn.ELU(), nn.Softplus(), nn.LayerNorm(4), nn.Identity(),
        nn.LogSoftmax(1), nn.Softmax(-1), nn.Unflatten(1, (2, -1)),
    )  # fmt: skip
    y = net(x)
    assert y.shape == (2, 2, 2) and abs(y.sum().item() - 2) < 1e-5
    assert list(net.state_dict().keys()) == ["10.weight", "10.bias"]


def test_embedding():
    layer = nn.Embedding(4, 3, padding_idx=1)
    x = tensor([[1, 3], [0, 1]])
    assert layer(x).shape == (2, 2, 3) and layer(x)[0, 0].tolist() == [0, 0, 0]
    assert layer(x)[0, 1].tolist() == layer.weight[3].tolist() != [0, 0, 0]


def test_containers():
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    layers.insert(1, nn.ReLU())
    layers[0] = nn.Tanh()
    assert len(layers) == 4 and len(layers[1:]) == 3
    assert list(layers.state_dict()) == ["2.weight", "2.bias", "3.weight", "3.bias"]
    assert repr(layers[2:]) == (
        "ModuleList(\n  (0-1): 2 x Linear(in_features=2, out_features=2, bias=True)\n)"
    )
    net = nn.Sequential(OrderedDict([("one", nn.Linear(2, 1)), ("two", nn.ReLU())]))
    assert [n for n, _ in net.named_children()] == ["one", "two"] and net.two is net[-1]
    assert net[:1](ones((1, 2))).shape == (1, 1)
    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Linear(1, 1)
    del table["a"]
    assert table.keys() == ["b"] and "a" not in table and len(list(table.parameters())) == 2
    weights = nn.ParameterList([ones((2,))])
    assert [n for n, _ in weights.named_parameters()] == ["0"]


def test_what_is_registered_and_removed():
    net = nn.Module()
    net.register_buffer("kept", ones((1,)))
    net.register_buffer("lost", ones((1,)), False)
    net.register_parameter("none", None)
    net.layer = nn.Linear(1, 1)
    assert list(net.state_dict().keys()) == ["kept", "layer.weight", "layer.bias"]
    assert len(list(net.buffers())) == 2
    names = []
    net.apply(lambda m: names.append(type(m).__name__))
    assert names == ["Linear", "Module"] and net.get_submodule("layer") is net.layer
    del net.layer
    assert not hasattr(net, "layer") and list(net.parameters()) == []
    found = net.load_state_dict({"kept": zeros((1,)), "x": ones((1,))}, strict=False)
    assert found.unexpected_keys == ["x"] and net.kept.item() == 0
    for wrong in ("a.b", "", "forward"):
        try:
            net.add_module(wrong, nn.ReLU())
        except KeyError as e:
            assert repr(wrong) in str(e)
        else:
            raise AssertionError("accepted")


def test_batch_norms_without_parts():
    x = tensor([[1, 5], [3, 1]])
    assert nn.BatchNorm1d(2, affine=False).state_dict().get("weight") is None
    y = nn.BatchNorm1d(2, eps=0.0, track_running_stats=False).eval()(x)
    assert max([abs(a - b) for a, b in zip(y.data, [-1, 1, 1, -1])]) < 1e-6
    norm = nn.BatchNorm1d(2, momentum=None)
    norm(x)
    assert norm.running_mean.tolist() == [2, 3] and norm.num_batches_tracked.item() == 1


def test_dropout_rests_in_eval():
    x = ones((64,))
    assert min(nn.Dropout(0.5)(x).data) == 0 and max(nn.Dropout(1.0)(x).data) == 0
    assert nn.Dropout(0.5).eval()(x).tolist() == x.tolist()


def test_wrong_use_is_named():
    error(lambda: nn.Conv1d(3, 4, 3, groups=2), "Conv1d", "3 and 4", "2 groups")
    error(lambda: nn.BatchNorm1d(3)(ones((2, 4))), "BatchNorm1d", "(2, 4)", "3 channels")
    error(lambda: nn.BatchNorm1d(3)(ones((1, 3))), "(1, 3)", "larger batch")
    error(lambda: nn.Dropout(1.5), "p=1.5")
    error(lambda: nn.AdaptiveAvgPool1d(2)(ones((2, 3))), "adaptive_avg_pool1d", "(2, 3)")
    error(lambda: nn.Linear(3, 2)(ones((1, 4))), "linear", "(1, 4)", "(2, 3)")
    error(lambda: nn.Conv1d(1, 1, 3, stride=2, padding="same"), "Conv1d", "'same'", "stride (2,)")
    error(lambda: nn.LayerNorm(3)(ones((1, 4))), "layer_norm", "(1, 4)", "(3,)")
    error(lambda: nn.Embedding(3, 2)(tensor([3])), "embedding", "3", "0 to 2")
    error(lambda: nn.Embedding(3, 2, padding_idx=3), "padding_idx 3")


def test_a_layer_in_two_places_has_its_parameters_once():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_parameter_is_replaced_by_a_parameter_or_none():
    layer = nn.Linear(2, 2)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    try:
        layer.weight = ones(2, 2)
    except TypeError as e:
        assert "weight is a parameter" in str(e)
    else:
        raise AssertionError("accepted")


def test_a_forgotten_init_is_named():
    class Net(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    try:
        Net()
    except AttributeError as e:
        assert "super().__init__() before you set layer" in str(e)
    else:
        raise AssertionError("accepted")
