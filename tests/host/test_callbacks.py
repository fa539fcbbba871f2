import csv
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tinytorch
from tests.host.test_train import LOADER, Sometimes, Stopped, blobs, make, stop
from tinytorch.train import curves, metrics
from tinytorch.train.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    Statistics,
    TensorBoard,
    statistics,
)
from tinytorch.train.history import Epoch
from tinytorch.utils.data import DataLoader


def fit(trainer, epochs=3):
    return trainer.fit(DataLoader(blobs(), **LOADER), epochs, DataLoader(blobs(24), 8))


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Metrics.


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 6), st.integers(1, 3))
def test_metrics_are_those_of_scikit_learn(seed, count, classes, batches):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(count, classes)).astype(np.float32)
    targets = rng.integers(0, classes, count)
    answers = scores.argmax(1)
    ours = {
        "accuracy": metrics.Accuracy(), "precision": metrics.Precision(),
        "recall": metrics.Recall(), "f1": metrics.F1(), "matrix": metrics.ConfusionMatrix(),
        "top": metrics.TopK(2),
    }  # fmt: skip
    for part in np.array_split(np.arange(count), batches):
        for metric in ours.values():
            metric.add(tinytorch.tensor(scores[part]), tinytorch.tensor(targets[part]))
    values = {name: metric.value() for name, metric in ours.items()}
    every = list(range(classes))
    macro = {"average": "macro", "zero_division": 0}
    assert values["accuracy"] == pytest.approx(sklearn.accuracy_score(targets, answers))
    for name in ("precision", "recall", "f1"):
        theirs = getattr(sklearn, f"{name}_score")(targets, answers, **macro)
        assert values[name] == pytest.approx(theirs)
    theirs = sklearn.confusion_matrix(targets, answers, labels=every)
    assert (values["matrix"] == theirs).all()
    top = np.mean([t in np.argsort(-s)[:2] for s, t in zip(scores, targets, strict=True)])
    assert values["top"] == pytest.approx(top)
    ours["f1"].reset()
    with pytest.raises(ValueError, match="F1: there is no value without a sample"):
        ours["f1"].value()


def test_errors_of_numbers():
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(2, 10, 3)).astype(np.float32)
    absolute, squared = metrics.MeanAbsoluteError(), metrics.MeanSquaredError()
    for part in (slice(0, 7), slice(7, 10)):
        for metric in (absolute, squared):
            metric.add(tinytorch.tensor(outputs[part]), tinytorch.tensor(targets[part]))
    assert absolute.value() == pytest.approx(sklearn.mean_absolute_error(targets, outputs))
    assert squared.value() == pytest.approx(sklearn.mean_squared_error(targets, outputs))
    with pytest.raises(ValueError, match=r"outputs \(2,\) do not fit targets \(3,\)"):
        absolute.add(tinytorch.ones(2), tinytorch.ones(3))


def test_scores_of_sequences_and_what_does_not_fit():
    scores = tinytorch.tensor(np.eye(3, dtype=np.float32)[[[0, 1, 2, 0], [2, 2, 1, 0]]])
    targets = tinytorch.tensor([[0, 1, 2, 1], [2, 2, 2, 0]])
    for outputs in (scores, scores.permute(0, 2, 1)):  # classes last, or as cross_entropy wants
        accuracy = metrics.Accuracy()
        accuracy.add(outputs, targets)
        assert accuracy.value() == 0.75
    equal = metrics.TopK(1)  # of equal scores the first is the largest
    equal.add(tinytorch.zeros(2, 3), tinytorch.tensor([0, 1]))
    assert equal.value() == 0.5
    with pytest.raises(ValueError, match=r"F1: outputs \(2, 3\) of float32 do not fit targets \(3"):
        metrics.F1().add(tinytorch.zeros(2, 3), tinytorch.tensor([0, 1, 1]))
    with pytest.raises(
        ValueError, match="go from 0 to 3: with 3 classes they must lie from 0 to 2"
    ):
        metrics.ConfusionMatrix().add(tinytorch.zeros(2, 3), tinytorch.tensor([0, 3]))
    with pytest.raises(ValueError, match="k=0"):
        metrics.TopK(0)


# Callbacks.


def test_hooks_come_in_order():
    heard = []

    class Listens(Callback):
        def on_start(self, trainer):
            heard.append("start")

        def on_batch(self, trainer):
            assert all(p.grad is not None for p in trainer.net.parameters())
            heard.append(trainer.steps)

        def on_epoch(self, trainer):
            heard.append(f"epoch {trainer.history[-1].epoch}")
            trainer.stop = len(trainer.history) == 2

        def on_end(self, trainer):
            heard.append("end")

    fit(make(callbacks=[Listens()]), 9)
    first, second = list(range(1, 7)), list(range(7, 13))
    assert heard == ["start", *first, "epoch 1", *second, "epoch 2", "end"]
    heard.clear()
    with pytest.raises(Stopped):
        fit(make(callbacks=[Listens(), Sometimes(2, stop)]))
    assert heard == ["start", 1, 2, "end"]


def test_checkpoints_of_the_last_and_of_the_best(tmp_path):
    last, best = tmp_path / "last.safetensors", tmp_path / "best.safetensors"
    trainer = make(callbacks=[Checkpoint(last, best=best)])
    fit(trainer, 4)
    kept = tinytorch.load(best)
    assert {n: t.tolist() for n, t in kept.items()} == {
        n: t.tolist() for n, t in trainer.net.state_dict().items()
    }
    resumed = make()
    resumed.resume(last)
    assert resumed.history == trainer.history
    for wrong in (lambda: Checkpoint(last, every=0), lambda: EarlyStopping(0)):
        with pytest.raises(ValueError, match="=0: give a whole number"):
            wrong()


def test_logs_of_a_resumed_training_have_no_gap_and_nothing_twice(tmp_path):
    def trainer(folder, *more):
        folder.mkdir(exist_ok=True)
        logs = [CSVLogger(folder / "history.csv"), Statistics(folder / "sizes.csv"), *more]
        checkpoint = Checkpoint(folder / "run.safetensors")
        return make(callbacks=[*logs, checkpoint], metrics={"f1": metrics.F1()})

    history = fit(trainer(tmp_path / "whole"), 4)
    with pytest.raises(Stopped):  # before the checkpoint of the second epoch, after its logs
        killed = Callback()
        killed.on_epoch = lambda t: stop(t) if len(t.history) == 2 else None
        fit(trainer(tmp_path / "cut", killed), 4)
    resumed = trainer(tmp_path / "cut")
    resumed.resume(tmp_path / "cut" / "run.safetensors")
    fit(resumed, 4)
    for name in ("history.csv", "sizes.csv"):
        texts = [(tmp_path / run / name).read_text() for run in ("whole", "cut")]
        assert texts[0] == texts[1]
    rows = table(tmp_path / "whole" / "history.csv")
    assert [{k: float(v) for k, v in row.items()} for row in rows] == [e.figures() for e in history]
    assert list(rows[0]) == [
        "epoch", "lr", "loss", "accuracy", "val_loss", "val_accuracy", "f1", "val_f1",
    ]  # fmt: skip
    assert len(table(tmp_path / "whole" / "sizes.csv")) == 4 * 2 * 6


def test_statistics_of_weights_and_gradients():
    net = tinytorch.nn.Linear(2, 2)
    net.weight.data[:] = [[3, -4], [0, 0]]
    net(tinytorch.tensor([[1.0, 0]])).sum().backward()
    weight, gradient = statistics(net)[:2]
    assert weight == {
        "parameter": "weight", "kind": "weight", "norm": 5, "mean": -0.25,
        "std": pytest.approx(np.std([3, -4, 0, 0])), "zeros": 0.5,
    }  # fmt: skip
    assert (gradient["kind"], gradient["norm"]) == ("gradient", pytest.approx(2**0.5))
    net.zero_grad()
    assert [row["kind"] for row in statistics(net)] == ["weight", "weight"]


def test_tensorboard_shows_the_history(tmp_path):
    history = fit(make(callbacks=[TensorBoard(tmp_path / "runs")]), 3)
    events = EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    shown = [(e.step, e.value) for e in events.Scalars("val_loss")]
    assert shown == [(e.epoch, pytest.approx(e.val_loss)) for e in history]
    assert {"lr", "accuracy", "gradient/0.weight", "weight/6.bias"} <= set(events.Tags()["scalars"])


def test_without_tensorboard_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tinytorch\[tensorboard\]'"):
        TensorBoard(tmp_path)


# The picture.


def size(png):
    """Width and height of a PNG."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_the_picture_has_a_panel_for_each_kind_of_figure():
    history = fit(make(), 3)
    three = size(curves.picture(history, "blobs", 2))
    two = size(curves.picture([Epoch(1, 0.1, 1.0, None)]))
    assert two[0] / three[0] == pytest.approx(2 / 3, rel=0.01)
    with pytest.raises(ValueError, match="no epoch"):
        curves.picture([])
