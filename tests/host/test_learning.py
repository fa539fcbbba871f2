"""Networks learn what they are there for, judged on data that they never saw."""

import re
import subprocess
import sys

import tinytorch
from tests.conftest import ROOT
from tinytorch import nn, optim
from tinytorch.datasets import digits
from tinytorch.train import Trainer, evaluate
from tinytorch.utils.data import DataLoader


def example(name):
    """What the script of an example says."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name / "train.py")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def trained(net, loss, data, lr, epochs, batch_size=32):
    """A net after training with Adam, whose rate falls to zero; chance has been seeded."""
    optimizer = optim.Adam(net.parameters(), lr=lr)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    trainer = Trainer(net, optimizer, loss, schedule=schedule, progress=False)
    trainer.fit(DataLoader(data, batch_size, shuffle=True), epochs)
    return net


def test_xor():
    said = example("xor")
    assert "0 xor 1 = 1" in said and "1 xor 1 = 0" in said
    assert said.endswith("4 of 4 right\n")


def test_digits_with_convolutions():
    said = example("digits")
    accuracy = re.search(r"test +([\d.]+)% of 359 images", said)
    assert float(accuracy[1]) > 97


def test_digits_with_an_mlp():
    tinytorch.manual_seed(0)
    train, test = digits()
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10)
    )
    trained(net, nn.CrossEntropyLoss(), train, lr=1e-2, epochs=20)
    assert evaluate(net, DataLoader(test, 256)).accuracy > 0.95
