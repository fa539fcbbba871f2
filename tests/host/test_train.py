import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import tinytorch
from tinytorch import nn, optim, serialize
from tinytorch.train import Trainer, evaluate
from tinytorch.utils.data import DataLoader, TensorDataset


def test_xor_is_learned():
    tinytorch.manual_seed(0)
    x = tinytorch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = tinytorch.tensor([0, 1, 1, 0])
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    history = Trainer(net, optim.Adam(net.parameters(), lr=0.05)).fit(loader, epochs=200)
    assert net(x).argmax(1).tolist() == [0, 1, 1, 0]
    assert history[-1].accuracy == 1 and history[-1].loss < 0.05


def blobs(count=96):
    """Signals (N, 2, 16) of three classes that overlap a little."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, count)
    x = rng.normal(size=(count, 2, 16)) + np.sin(np.arange(16) * (y[:, None, None] + 1))
    return TensorDataset(x.astype(np.float32), y)


def make(tmp_path, **settings):
    tinytorch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.MaxPool1d(2),
        nn.Flatten(), nn.Linear(28, 3),
    )  # fmt: skip
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    path = tmp_path / "run.safetensors"
    return Trainer(net, optimizer, schedule=schedule, seed=1, checkpoint=path, **settings)


LOADER = {"batch_size": 16, "shuffle": True}


def weights(net):
    return {name: t.data.tobytes() for name, t in net.state_dict().items()}


def test_a_resumed_training_is_equal_to_the_bit(tmp_path):
    data = blobs()
    whole = make(tmp_path / "..")
    whole.checkpoint = None
    whole.fit(DataLoader(data, **LOADER), 6, DataLoader(data, 32))
    make(tmp_path).fit(DataLoader(data, **LOADER), 3, DataLoader(data, 32))
    resumed = make(tmp_path)
    resumed.resume()
    tinytorch.randn(7)  # what happens in between draws from the generator too
    resumed.resume()
    assert len(resumed.history) == 3
    resumed.fit(DataLoader(data, **LOADER), 6, DataLoader(data, 32))
    assert weights(resumed.net) == weights(whole.net)
    assert resumed.history == whole.history
    assert resumed.optimizer.lr == whole.optimizer.lr


KILLED = """
import os, signal, sys, pathlib
sys.path.insert(0, {root!r})
from tests.host.test_train import LOADER, blobs, make
from tinytorch.utils.data import DataLoader
class Dies(DataLoader):
    epochs = 0
    def __iter__(self):
        self.epochs += 1
        for i, batch in enumerate(super().__iter__()):
            if self.epochs == 4 and i == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch
make(pathlib.Path({path!r})).fit(Dies(blobs(), **LOADER), 6, DataLoader(blobs(), 32))
"""


def test_a_killed_training_resumes_to_the_bit(tmp_path, pytestconfig):
    script = KILLED.format(root=str(pytestconfig.rootpath), path=str(tmp_path))
    run = subprocess.run([sys.executable, "-c", script], env=os.environ, timeout=60)
    assert run.returncode == -signal.SIGKILL
    data = blobs()
    resumed = make(tmp_path)
    resumed.resume()
    assert len(resumed.history) == 3
    resumed.fit(DataLoader(data, **LOADER), 6, DataLoader(data, 32))
    whole = make(tmp_path)
    whole.checkpoint = None
    whole.fit(DataLoader(data, **LOADER), 6, DataLoader(data, 32))
    assert weights(resumed.net) == weights(whole.net)


def test_the_best_weights_come_back_and_patience_ends(tmp_path):
    data = blobs(24)
    other = blobs(24)
    labels = other.tensors[1].data
    labels[:] = (labels + 1) % 3  # validation that training makes worse
    trainer = make(tmp_path, patience=2)
    trainer.fit(DataLoader(data, **LOADER), 50, DataLoader(other, 8))
    losses = [e.val_loss for e in trainer.history]
    assert len(losses) < 50 and len(losses) == trainer.best_epoch + 2
    assert losses[trainer.best_epoch - 1] == min(losses)
    assert evaluate(trainer.net, DataLoader(other, 8)).loss == min(losses)


def test_evaluate_keeps_the_mode():
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 3), nn.Dropout(0.5))
    score = evaluate(net, DataLoader(blobs(), 32))
    assert net.training and 0 <= score.accuracy <= 1
    targets = TensorDataset(np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32))
    assert evaluate(nn.Linear(2, 1), DataLoader(targets, 2), nn.MSELoss()).accuracy is None


def test_numbers_that_are_none_stop_the_training():
    data = TensorDataset(np.full((4, 2), np.nan, np.float32), np.zeros(4, np.int64))
    net = nn.Linear(2, 2)
    trainer = Trainer(net, optim.SGD(net.parameters()))
    with pytest.raises(ArithmeticError, match="loss in epoch 1 is nan"):
        trainer.fit(DataLoader(data, 2), 1)
    good = TensorDataset(np.ones((4, 2), np.float32), np.zeros(4, np.int64))
    with pytest.raises(ArithmeticError, match="validation loss in epoch 1 is nan"):
        trainer.fit(DataLoader(good, 2), 1, DataLoader(data, 2))


def test_loaders_without_a_batch_are_refused():
    net = nn.Linear(2, 2)
    data = TensorDataset(np.ones((4, 2), np.float32), np.zeros(4, np.int64))
    none, some = DataLoader(data, 5, drop_last=True), DataLoader(data, 5)
    trainer = Trainer(net, optim.SGD(net.parameters()))
    for loaders in ((none,), (some, none)):
        with pytest.raises(ValueError, match="not one batch in 4 samples"):
            trainer.fit(loaders[0], 1, *loaders[1:])
    with pytest.raises(ValueError, match="not one batch"):
        evaluate(net, none)


def test_no_bar_where_there_is_no_terminal(tmp_path, capsys):
    make(tmp_path).fit(DataLoader(blobs(), **LOADER), 1)
    assert capsys.readouterr() == ("", "")


def test_a_state_dict_in_a_file(tmp_path):
    net, other = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    path = tmp_path / "net.safetensors"
    tinytorch.save(net.state_dict(), path)
    other.load_state_dict(tinytorch.load(path))
    assert weights(other) == weights(net)
    transposed = tinytorch.tensor(np.arange(6.0).reshape(2, 3)).T
    serialize.save({"t": transposed}, path, {"a": [1, 2**100]})
    tensors, metadata = serialize.load_with_metadata(path)
    assert tensors["t"].tolist() == transposed.tolist() and metadata == {"a": [1, 2**100]}


def test_broken_checkpoints_are_named(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="net.safetensors"):
        tinytorch.load(path)
    tinytorch.save({"a": tinytorch.ones(3)}, path)
    trainer = make(tmp_path)
    with pytest.raises(ValueError, match="not a checkpoint"):
        trainer.resume(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="net.safetensors is not a safetensors file"):
        tinytorch.load(path)


def test_a_training_of_another_kind_is_not_resumed(tmp_path):
    make(tmp_path).fit(DataLoader(blobs(), **LOADER), 1)
    net = make(tmp_path).net
    adam = optim.Adam(net.parameters())
    schedule = optim.lr_scheduler.StepLR(adam, 1)
    path = tmp_path / "run.safetensors"
    with pytest.raises(ValueError, match="with a learning rate schedule"):
        Trainer(net, adam).resume(path)
    with pytest.raises(ValueError, match="of Adam, not of SGD"):
        Trainer(net, optim.SGD(net.parameters()), schedule=schedule).resume(path)
    with pytest.raises(ValueError, match="6 parameters, the optimizer has 2"):
        Trainer(net, optim.Adam(net[-1].parameters()), schedule=schedule).resume(path)
    Trainer(net, adam, schedule=schedule).resume(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    tinytorch.save({"a": tinytorch.ones(3)}, path)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        tinytorch.save({"a": tinytorch.zeros(3)}, path)
    assert tinytorch.load(path)["a"].tolist() == [1, 1, 1]
