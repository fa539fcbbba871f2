"""Networks with branches on the kits: sums, products by channels, logistic functions."""

import numpy as np
import pytest

from tests.host.test_graphs import mobile
from tests.networks import ResNet8
from tinytorch import nn, no_grad, optim, random
from tinytorch.autograd.tensor import Tensor
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.calibrate import quantize
from tito.board.device import connect

KITS = ["virtual", pytest.param("pico", marks=pytest.mark.long)]  # minutes in the firmware
SHAPES = {"resnet8": (3, 12, 12), "mobile": (2, 12, 10)}


def trained(name: str) -> tuple[nn.Module, np.ndarray]:
    """A net after a few steps that tell one pattern from another, and its inputs."""
    rng = np.random.default_rng(0)
    random.manual_seed(0)
    net = ResNet8(3, 4) if name == "resnet8" else mobile()
    patterns = rng.normal(0, 1, (3, *SHAPES[name]))
    y = rng.integers(0, 3, 96)
    x = (patterns[y] + rng.normal(0, 0.5, (96, *SHAPES[name]))).astype(np.float32)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    net.train()
    for _ in range(40):
        loss = nn.functional.cross_entropy(net(Tensor(x)), Tensor(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with no_grad():
        right = (net(Tensor(x)).numpy().argmax(1) == y).mean()
    assert right > 0.8
    return net, x


@pytest.mark.parametrize("kit", KITS, indirect=True)
@pytest.mark.parametrize("tier", ["exact", "lane"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_branched_network_gives_the_laptops_bytes(kit, name, tier):
    net, x = trained(name)
    quantized = quantize(net, x, name=name, labels=["a", "b", "c"], tier=tier)
    q = quantized.input.of(np.moveaxis(x, 1, -1))
    data = to_bytes(quantized, q[:2])
    expected = Model(data).run_batch(q[:6])
    with connect(kit) as device:
        assert device.put_model(data)["vectors"] == 2
        for sample, y in zip(q[:6], expected, strict=True):
            assert device.run(sample.tobytes())[0] == y.tobytes()
