import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tinytorch
from tinytorch import nn, optim, serialize
from tinytorch.train.callbacks import Callback, Checkpoint, EarlyStopping
from tinytorch.train.metrics import F1, MeanAbsoluteError
from tinytorch.train.trainer import Trainer, evaluate
from tinytorch.utils.data import DataLoader, TensorDataset, Transformed

LOADER = {"batch_size": 16, "shuffle": True}


def blobs(count=96):
    """Signals (N, 2, 16) of three classes that overlap a little."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, count)
    x = rng.normal(size=(count, 2, 16)) + np.sin(np.arange(16) * (y[:, None, None] + 1))
    return TensorDataset(x.astype(np.float32), y)


def make(**settings):
    tinytorch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.MaxPool1d(2),
        nn.Flatten(), nn.Linear(28, 3),
    )  # fmt: skip
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    return Trainer(net, optimizer, **{"schedule": schedule, "seed": 1, **settings})


def weights(net):
    return {name: t.data.tobytes() for name, t in net.state_dict().items()}


def assert_same(a, b):
    """Two trainings that went the same way, to the bit."""
    assert a.history == b.history and a.steps == b.steps
    assert weights(a.net) == weights(b.net)
    state_a, state_b = a.optimizer.state_dict(), b.optimizer.state_dict()
    assert state_a["param_groups"] == state_b["param_groups"]
    for i, entries in state_a["state"].items():
        for name, x in entries.items():
            y = state_b["state"][i][name]
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


class Sometimes(Callback):
    """Does something once, after so many steps."""

    def __init__(self, steps, do):
        self.steps, self.do = steps, do

    def on_batch(self, trainer):
        if trainer.steps == self.steps:
            self.do(trainer)


class Stopped(Exception):
    pass


def stop(trainer):
    raise Stopped


def test_xor_is_learned():
    tinytorch.manual_seed(0)
    x = tinytorch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = tinytorch.tensor([0, 1, 1, 0])
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    history = Trainer(net, optim.Adam(net.parameters(), lr=0.05)).fit(loader, epochs=200)
    assert net(x).argmax(1).tolist() == [0, 1, 1, 0]
    assert history[-1].accuracy == 1 and history[-1].loss < 0.05


# One training, cut into pieces.


def test_two_fits_are_one(tmp_path):
    """Also where the best epoch is not the last, and others draw or load in between."""
    data, valid = blobs(), DataLoader(blobs(24), 8)
    whole, halves = make(), make()
    whole.fit(DataLoader(data, **LOADER), 6, valid)
    assert whole.best_epoch > 0
    for epochs in (2, 3, 6):
        halves.fit(DataLoader(data, **LOADER), epochs, valid)
        evaluate(halves.net, DataLoader(data, **LOADER))
        tinytorch.randn(7)
    assert_same(halves, whole)
    halves.save(tmp_path / "after.safetensors")
    whole.fit(DataLoader(data, **LOADER), 8, valid)
    resumed = make()
    resumed.resume(tmp_path / "after.safetensors")
    resumed.fit(DataLoader(data, **LOADER), 8, valid)
    assert_same(resumed, whole)


def other_labels():
    data = blobs(24)
    labels = data.tensors[1].data
    labels[:] = (labels + 1) % 3
    return data


def test_the_best_weights_come_back_and_patience_ends():
    data, valid = blobs(24), DataLoader(other_labels(), 8)  # validation that training makes worse
    trainer = make(callbacks=[EarlyStopping(2)])
    trainer.fit(DataLoader(data, **LOADER), 50, valid)
    losses = [e.val_loss for e in trainer.history]
    assert len(losses) < 50 and len(losses) == trainer.best_epoch + 2
    assert losses[trainer.best_epoch - 1] == min(losses)
    assert evaluate(trainer.net, valid).loss == min(losses)
    before = list(trainer.history)
    assert trainer.fit(DataLoader(data, **LOADER), 50, valid) == before
    # The next fit goes on from the last weights, not from the best.
    trainer.callbacks.clear()
    trainer.fit(DataLoader(data, **LOADER), len(losses) + 2, valid)
    whole = make()
    whole.fit(DataLoader(data, **LOADER), len(losses) + 2, valid)
    assert_same(trainer, whole)


def test_what_is_watched():
    data, valid = blobs(), DataLoader(blobs(48), 8)
    trainer = make(watch="val_f1", mode="max", metrics={"f1": F1()})
    history = trainer.fit(DataLoader(data, **LOADER), 4, valid)
    values = [e.metrics["val_f1"] for e in history]
    assert trainer.best_epoch == 1 + values.index(max(values))
    assert all(0 < e.metrics["f1"] <= 1 for e in history)
    with pytest.raises(
        ValueError, match="no figure 'val_f2' to watch: .* loss, accuracy, val_loss"
    ):
        make(watch="val_f2").fit(DataLoader(data, **LOADER), 1, valid)
    trainer = make(watch="loss")  # needs no validation
    losses = [e.loss for e in trainer.fit(DataLoader(data, **LOADER), 3)]
    assert trainer.best_epoch == 1 + losses.index(min(losses))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 6, 11, 13])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_checkpoint_after_any_step_is_enough(tmp_path, steps, accumulate):
    """Six batches an epoch; the last group of batches may be smaller than the others."""
    path = tmp_path / "run.safetensors"
    settings = {"accumulate": accumulate, "metrics": {"f1": F1()}, "schedule_every": "batch"}

    def loaders():
        noise = Transformed(blobs(90), lambda x: x + 0.1 * tinytorch.randn(*x.shape))
        generator = np.random.default_rng(7)
        train = DataLoader(noise, **LOADER, generator=generator, num_workers=2)
        return train, DataLoader(blobs(40), 16, shuffle=True)

    whole = make(**settings)
    train, valid = loaders()
    whole.fit(train, 5, valid)
    cut = make(**settings, callbacks=[Checkpoint(path, every=1), Sometimes(steps, stop)])
    train, valid = loaders()
    with pytest.raises(Stopped):
        cut.fit(train, 5, valid)
    resumed = make(**settings)
    resumed.resume(path)
    assert resumed.steps == steps
    train, valid = loaders()
    tinytorch.randn(7)  # what happens in between draws, too
    resumed.fit(train, 5, valid)
    assert_same(resumed, whole)


def test_a_pause_by_an_error_goes_on_where_it_was():
    whole = make()
    whole.fit(DataLoader(blobs(), **LOADER), 3)
    paused = make(callbacks=[Sometimes(8, stop)])
    with pytest.raises(Stopped):
        paused.fit(DataLoader(blobs(), **LOADER), 3)
    paused.fit(DataLoader(blobs(), **LOADER), 3)
    assert_same(paused, whole)


def job(folder):
    """What is killed again and again: a training with everything that has a state."""
    checkpoint = folder / "run.safetensors"
    trainer = make(
        callbacks=[EarlyStopping(4), Checkpoint(checkpoint, every=2)], accumulate=2, clip_norm=1.0
    )
    if checkpoint.exists():
        trainer.resume(checkpoint)
    train = DataLoader(blobs(600), **LOADER, num_workers=2)
    print("begins", flush=True)
    trainer.fit(train, 14, DataLoader(other_labels(), 8))
    trainer.save(folder / "end.safetensors")


JOB = """
import sys, pathlib
sys.path.insert(0, {root!r})
from tests.host.test_train import job
job(pathlib.Path({folder!r}))
"""


def run_job(root, folder):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", JOB.format(root=str(root), folder=str(folder))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"begins\n"
    return process


def end(process):
    process.stdout.close()
    return process.wait(timeout=60)


def test_a_training_that_is_killed_at_random_moments(tmp_path, pytestconfig, monkeypatch):
    monkeypatch.setenv("TINYTORCH_FAST", "0")
    start = time.monotonic()
    assert end(run_job(pytestconfig.rootpath, tmp_path / "whole")) == 0
    long = time.monotonic() - start
    killed = 0
    while not (tmp_path / "cut" / "end.safetensors").exists():
        process = run_job(pytestconfig.rootpath, tmp_path / "cut")
        time.sleep(random.uniform(0, 0.3 * long))
        process.kill()
        killed += end(process) == -signal.SIGKILL
    whole, cut = (
        serialize.load_with_metadata(tmp_path / run / "end.safetensors") for run in ("whole", "cut")
    )
    assert killed
    assert {n: t.data.tobytes() for n, t in whole[0].items()} == {
        n: t.data.tobytes() for n, t in cut[0].items()
    }
    assert whole[1] == cut[1]
    history = cut[1]["history"]
    assert history[-1]["epoch"] < 14  # it was stopped early


WRITER = """
import pathlib, itertools
import tinytorch
for i in itertools.count(1):
    tinytorch.save({{"a": tinytorch.full((1 << 24,), float(i))}}, {path!r})
"""


def test_a_kill_while_a_checkpoint_is_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "run.safetensors"
    new = tmp_path / "run.safetensors.new"
    tinytorch.save({"a": tinytorch.full((1 << 24,), 0.0)}, path)
    full = path.stat().st_size
    for _ in range(3):
        script = WRITER.format(path=str(path))
        with subprocess.Popen([sys.executable, "-c", script]) as process:
            while not (new.exists() and 0 < new.stat().st_size < full):
                assert process.poll() is None
            process.kill()
        assert new.stat().st_size < full  # it was killed while it wrote
        numbers = tinytorch.load(path)["a"].data
        assert numbers.size == 1 << 24 and (numbers == numbers[0]).all()
    new.unlink()


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = make(callbacks=[Checkpoint(path)])
    trainer.fit(DataLoader(blobs(), **LOADER), 1)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="run.safetensors"):
            trainer.fit(DataLoader(blobs(), **LOADER), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


# Steps.


@pytest.mark.parametrize("capture", [True, False])
def test_accumulated_batches_are_one_batch(capture):
    def trained(batch_size, accumulate):
        tinytorch.manual_seed(2)
        net = nn.Sequential(nn.Flatten(), nn.Linear(32, 3)).to("float64")
        sgd = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        data = TensorDataset(blobs(92).tensors[0].to("float64"), blobs(92).tensors[1])
        trainer = Trainer(net, sgd, accumulate=accumulate, capture=capture)
        trainer.fit(DataLoader(data, batch_size), 2)
        return trainer

    one, many = trained(24, 1), trained(8, 3)
    assert (one.steps, many.steps) == (8, 8)  # the last of four is of 20 samples, 8 + 8 + 4
    for a, b in zip(one.net.parameters(), many.net.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)
    assert many.history[-1].loss == pytest.approx(one.history[-1].loss, rel=1e-12)


def test_captured_steps_are_those_of_the_tape():
    runs = [make(capture=capture, clip_norm=0.5) for capture in (True, False)]
    for run in runs:
        run.fit(DataLoader(blobs(), **LOADER), 3, DataLoader(blobs(24), 8))
    assert_same(*runs)


def test_clipping():
    norms = []
    data = DataLoader(blobs(), **LOADER)

    class Norms(Callback):
        def on_batch(self, trainer):
            squares = [np.sum(p.grad.data.astype(float) ** 2) for p in trainer.net.parameters()]
            norms.append(sum(squares) ** 0.5)

    make(callbacks=[Norms()]).fit(data, 1)
    largest = max(norms)
    norms.clear()
    make(callbacks=[Norms()], clip_norm=largest / 3).fit(data, 1)
    assert max(norms) == pytest.approx(largest / 3, rel=1e-4)


def test_schedules():
    data = DataLoader(blobs(), **LOADER)
    trainer = make()
    trainer.schedule = optim.lr_scheduler.StepLR(trainer.optimizer, 2, 0.5)
    assert [e.lr for e in trainer.fit(data, 5)] == [0.01, 0.01, 0.005, 0.005, 0.0025]
    trainer = make(schedule_every="batch")
    trainer.schedule = optim.lr_scheduler.StepLR(trainer.optimizer, 6, 0.5)  # six batches
    assert [e.lr for e in trainer.fit(data, 3)] == [0.01, 0.005, 0.0025]
    trainer = make()
    plateau = optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, patience=0, factor=0.5)
    trainer.schedule = plateau
    history = trainer.fit(data, 6, DataLoader(other_labels(), 8))
    worse = [
        b.val_loss > 0.9999 * min(e.val_loss for e in history[: i + 1])
        for i, b in enumerate(history[1:])
    ]
    rates = [e.lr for e in history]
    assert any(worse)
    assert [b < a for a, b in zip(rates[1:], rates[2:], strict=False)] == worse[:-1]
    with pytest.raises(ValueError, match="steps after each epoch"):
        make(schedule=plateau, schedule_every="batch")


# Evaluation.


def test_evaluate_keeps_each_modes():
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 3), nn.Dropout(0.5), nn.Dropout(0.5))
    net[2].eval()
    score = evaluate(net, DataLoader(blobs(), 32))
    assert [m.training for m in net.modules()] == [True, True, True, False, True]
    assert 0 <= score.accuracy <= 1
    targets = TensorDataset(np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32))
    metrics = {"mae": MeanAbsoluteError()}
    score = evaluate(nn.Linear(2, 1), DataLoader(targets, 2), nn.MSELoss(), metrics)
    assert score.accuracy is None
    assert score.values()["mae"] == pytest.approx(score.loss**0.5, rel=1e-5)


def test_no_bar_where_there_is_no_terminal(capsys):
    make().fit(DataLoader(blobs(), **LOADER), 1)
    assert capsys.readouterr() == ("", "")


# Numbers that are none.


def ones(count=8):
    return TensorDataset(np.ones((count, 2), np.float32), np.zeros(count, np.int64))


class Odd(nn.Module):
    """The root of its input: no number below zero, and no slope at zero."""

    def forward(self, x):
        return x**0.5


def learner(*layers, **settings):
    tinytorch.manual_seed(0)
    net = nn.Sequential(*layers)
    return Trainer(net, optim.SGD(net.parameters(), lr=0.1), **settings)


def test_bad_data_are_named():
    x = np.ones((8, 2), np.float32)
    x[5, 1] = np.nan
    bad = TensorDataset(x, np.zeros(8, np.int64))
    trainer = learner(nn.Linear(2, 2))
    says = "loss in epoch 1, batch 3, is nan: the inputs have nan in them, first in sample 1 of the"
    with pytest.raises(ArithmeticError, match=says):
        trainer.fit(DataLoader(bad, 2), 1)
    says = "validation loss in epoch 1, batch 2, is nan: the inputs have nan"
    with pytest.raises(ArithmeticError, match=says):
        learner(nn.Linear(2, 2)).fit(DataLoader(ones(), 2), 1, DataLoader(bad, 4))
    with pytest.raises(ArithmeticError, match="The loss, batch 1, is nan: the inputs"):
        evaluate(trainer.net, DataLoader(bad, 8))


@pytest.mark.parametrize("capture", [True, False])
def test_the_layer_is_named_where_nan_begins(capture):
    data = DataLoader(ones(), 4)
    with np.errstate(all="ignore"):
        layers = nn.Linear(2, 2), nn.Sequential(nn.ReLU(), Odd()), nn.Linear(2, 2)
        trainer = learner(*layers, capture=capture)
        trainer.net[0].bias.data[:] = 5
        trainer.net[1].add_module("1", Odd())
        trainer.fit(data, 1)
        trainer.net[1].add_module("0", nn.Flatten())  # no ReLU any more
        trainer.net[0].bias.data[:] = -50
        says = r"epoch 2, batch 1, is nan: it began in the layer '1.1' \(Odd\)"
        with pytest.raises(ArithmeticError, match=says):
            trainer.fit(data, 2)
        assert not trainer.net[1]._hooks

        says = r"In epoch 1, batch 1, the loss is finite, but the gradient of '0.bias' is not"
        trainer = learner(nn.Linear(2, 2), Odd(), capture=capture)
        for p in trainer.net.parameters():
            p.data[:] = 0
        with pytest.raises(ArithmeticError, match=says):
            trainer.fit(data, 1)

        trainer = learner(nn.Linear(2, 2), capture=capture)
        trainer.net[0].weight.data[1, 1] = np.inf
        with pytest.raises(ArithmeticError, match="'0.weight' was not finite any more before"):
            trainer.fit(data, 1)

        trainer = learner(nn.Linear(2, 2), loss=lambda x, y: (x * 0).mean().log(), capture=capture)
        with pytest.raises(ArithmeticError, match="is -inf: it began in the loss function"):
            trainer.fit(data, 1)


def test_a_rate_that_is_too_high_ends_in_a_sentence():
    trainer = learner(nn.Linear(2, 2), nn.Linear(2, 1), loss=nn.MSELoss())
    trainer.optimizer.param_groups[0]["lr"] = 1e6
    data = TensorDataset(np.ones((8, 2), np.float32), np.full((8, 1), 3, np.float32))
    with (
        np.errstate(all="ignore"),
        pytest.raises(ArithmeticError, match="epoch [0-9]+, batch 1.* lower the learning rate"),
    ):
        trainer.fit(DataLoader(data, 8), 50)


# Bad use.


def test_loaders_without_a_batch_are_refused():
    none, some = DataLoader(ones(4), 5, drop_last=True), DataLoader(ones(4), 5)
    trainer = learner(nn.Linear(2, 2))
    for loaders in ((none,), (some, none)):
        with pytest.raises(ValueError, match="not one batch in 4 samples"):
            trainer.fit(loaders[0], 1, *loaders[1:])
    with pytest.raises(ValueError, match="not one batch"):
        evaluate(trainer.net, none)
    with pytest.raises(ValueError, match="the data set is empty"):
        DataLoader(ones(0), 5)


def test_bad_use_is_refused():
    data = DataLoader(ones(), 4)
    with pytest.raises(ValueError, match="lr=0 is not a number above 0"):
        optim.SGD(nn.Linear(2, 2).parameters(), lr=0)
    for settings, says in [
        ({"accumulate": 0}, "accumulate=0"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"mode": "best"}, "'best' is neither 'min' nor 'max'"),
        ({"schedule_every": "year"}, "'year' is neither"),
    ]:
        with pytest.raises(ValueError, match=says):
            learner(nn.Linear(2, 2), **settings)
    with pytest.raises(ValueError, match="EarlyStopping: no epoch has the figure 'val_loss'"):
        learner(nn.Linear(2, 2), callbacks=[EarlyStopping(1)]).fit(data, 2)
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(3, 3\)"):
        learner(nn.Linear(3, 3)).fit(data, 1)
    high = TensorDataset(np.ones((4, 2), np.float32), np.array([0, 1, 2, 1]))
    with pytest.raises(ValueError, match="class 2 is not one of 0 to 1"):
        learner(nn.Linear(2, 2)).fit(DataLoader(high, 4), 1)
    for bad, kind in [(TensorDataset(np.ones((4, 2))), r"\(Tensor\)"), ([1, 2, 3], "Tensor")]:
        with pytest.raises(TypeError, match=f"A batch of type {kind} cannot be trained on"):
            learner(nn.Linear(2, 2)).fit(DataLoader(bad, 2), 1)


# Files.


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


def test_nested_values_with_arrays_in_a_file(tmp_path):
    value = {
        "a": [1, (2.5, None), {3: np.arange(3), "b": tinytorch.ones(2)}],
        "inf": np.float64(np.inf), "nothing": {}, "flag": True, "big": 2**127 + 1,
    }  # fmt: skip
    tensors = {}
    serialize.save(tensors, tmp_path / "x", {"value": serialize.pack(value, tensors)})
    tensors, metadata = serialize.load_with_metadata(tmp_path / "x")
    back = serialize.unpack(metadata["value"], tensors)
    array, tensor = back["a"][2].pop(3), back["a"][2].pop("b")
    assert isinstance(array, np.ndarray) and array.tolist() == [0, 1, 2]
    assert isinstance(tensor, tinytorch.Tensor) and tensor.tolist() == [1, 1]
    del value["a"][2][3], value["a"][2]["b"]
    assert back == value and isinstance(back["a"][1], tuple)


def test_broken_checkpoints_are_named(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="net.safetensors"):
        tinytorch.load(path)
    tinytorch.save({"a": tinytorch.ones(3)}, path)
    trainer = make()
    with pytest.raises(ValueError, match="not a checkpoint"):
        trainer.resume(path)
    trainer.fit(DataLoader(blobs(), **LOADER), 1)
    trainer.save(path)
    good = path.read_bytes()
    trainer = make()
    before = weights(trainer.net)
    random.seed(1)
    broken = [good[:-1], good[:100], good[:5], b"", good + b"x", b"PK\x03\x04 no safetensors"]
    for _ in range(60):  # a bit that flipped, anywhere
        at = random.randrange(len(good))
        broken.append(good[:at] + bytes([good[at] ^ (1 << random.randrange(8))]) + good[at + 1 :])
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="net.safetensors (is|holds)") as caught:
            trainer.resume(path)
        assert str(caught.value).count("\n") == 0
    assert weights(trainer.net) == before
    path.write_bytes(good)
    trainer.resume(path)


def test_a_training_of_another_kind_is_not_resumed(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = make(callbacks=[Checkpoint(path, every=2), Sometimes(8, stop)])
    with pytest.raises(Stopped):
        trainer.fit(DataLoader(blobs(), **LOADER), 2)
    net = make().net
    adam = optim.Adam(net.parameters())
    schedule = optim.lr_scheduler.CosineAnnealingLR(adam, 6)
    with pytest.raises(ValueError, match="with a learning rate schedule"):
        Trainer(net, adam).resume(path)
    with pytest.raises(ValueError, match="of Adam, not of SGD"):
        sgd = optim.SGD(net.parameters())
        Trainer(net, sgd, schedule=optim.lr_scheduler.CosineAnnealingLR(sgd, 6)).resume(path)
    with pytest.raises(ValueError, match="6 parameters, the optimizer has 2"):
        Trainer(net, optim.Adam(net[-1].parameters()), schedule=schedule).resume(path)
    wider = make()
    wider.net[6].weight = nn.Parameter(np.zeros((3, 29), np.float32))
    with pytest.raises(ValueError, match=r"6.weight has shape \(3, 29\) here and \(3, 28\)"):
        wider.resume(path)
    other = make()
    other.resume(path)
    with pytest.raises(ValueError, match="epoch 2 was begun with 6 batches, and the loader has 12"):
        other.fit(DataLoader(blobs(), 8), 2)
