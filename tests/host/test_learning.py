"""Networks learn what they are there for, judged on data that they never saw."""

import re
import subprocess
import sys

import numpy as np

import tinytorch
from tests.conftest import ROOT
from tinytorch import nn, optim
from tinytorch.data.datasets import digits
from tinytorch.data.windows import windows
from tinytorch.train.trainer import Trainer, evaluate
from tinytorch.utils.data import DataLoader, TensorDataset


def example(name):
    """What the script of an example says."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name / "train.py")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def each_token(scores, targets):
    """The loss of scores (N, T, V) beside tokens (N, T)."""
    return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def trained(net, data, lr, epochs, batch_size=32, loss=nn.functional.cross_entropy):
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
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.4), nn.Linear(256, 10)
    )
    trained(net, train, lr=5e-3, epochs=20)
    assert evaluate(net, DataLoader(test, 256)).accuracy > 0.95


class Reverser(nn.Module):
    """Tokens (N, T) to scores (N, T, V): each place has to look at the one across the middle."""

    def __init__(self, tokens, length, width=32):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.position = nn.SinusoidalPositionalEncoding(width, length, batch_first=True)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.scores = nn.Linear(width, tokens)

    def forward(self, x):
        return self.scores(self.encoder(self.position(self.embedding(x))))


def test_a_transformer_reverses_sequences():
    tinytorch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = np.unique(rng.integers(0, 10, (2500, 10)), axis=0)  # none is twice in it
    x = rng.permutation(x)
    train, test = (TensorDataset(part, part[:, ::-1]) for part in (x[:2000], x[2000:]))
    net = trained(Reverser(10, 10), train, lr=3e-3, epochs=12, batch_size=64, loss=each_token)
    assert evaluate(net, DataLoader(test, 500), each_token).accuracy > 0.99


class Writer(nn.Module):
    """Characters (N, T) to scores (N, T, V) of the next ones."""

    def __init__(self, characters):
        super().__init__()
        self.embedding = nn.Embedding(characters, 32)
        self.gru = nn.GRU(32, 64, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.scores = nn.Linear(64, characters)

    def forward(self, x):
        return self.scores(self.dropout(self.gru(self.embedding(x))[0]))


def bigram_loss(train, x, y, characters):
    """The lowest mean loss, over ways and amounts of smoothing, of a table of pairs."""
    pairs = np.zeros((characters, characters))
    np.add.at(pairs, (train[:-1], train[1:]), 1)
    alone = (np.bincount(train, minlength=characters) + 0.1) / (len(train) + 0.1 * characters)
    losses = []
    for towards in (alone, np.full(characters, 1 / characters)):
        for amount in np.logspace(-2, 2, 40):
            p = (pairs + amount * towards) / (pairs.sum(1, keepdims=True) + amount)
            losses.append(-np.log(p[x, y]).mean())
    return min(losses)


def test_a_recurrent_network_beats_pairs_of_characters():
    tinytorch.manual_seed(0)
    text = " ".join((ROOT / "LICENSE").read_text().lower().split())
    names, characters = np.unique(list(text), return_inverse=True)
    cut = len(text) * 85 // 100
    train, rest = characters[:cut], characters[cut:]

    def samples(stream, step):
        cut = windows(stream, 33, step)[:, 0]
        return TensorDataset(cut[:, :-1], cut[:, 1:])

    valid = samples(rest, 32)
    net = trained(Writer(len(names)), samples(train, 8), lr=1e-2, epochs=6, loss=each_token)
    loss = evaluate(net, DataLoader(valid, 64), each_token).loss
    bigram = bigram_loss(train, *(t.numpy() for t in valid.tensors), len(names))
    assert bigram < 2.5 and loss < bigram - 0.3
