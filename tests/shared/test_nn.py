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


def test_dropout_rests_in_eval():
    x = ones((64,))
    assert min(nn.Dropout(0.5)(x).data) == 0
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
