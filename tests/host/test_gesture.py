from dataclasses import replace

import numpy as np
import pytest

from tinytorch import random
from tinytorch.autograd.tensor import Tensor
from tinytorch.data.recordings import Recordings
from tinytorch.data.simulator import simulate
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing import gesture
from tinytorch.sensing.motion import motion_features, quantize_windows
from tinytorch.sensing.trained import Trained
from tinytorch.train.trainer import evaluate
from tinytorch.utils.data import DataLoader


def recordings(lengths, channels=3, classes=2):
    """Noise of these lengths, louder the higher the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(len(lengths)) % classes
    signals = [
        (rng.normal(size=(n, channels)) * (100 + 800 * k)).astype(np.int16)
        for n, k in zip(lengths, labels, strict=True)
    ]
    return Recordings(
        signals=signals, labels=labels, splits=np.array(["train"] * len(lengths)),
        classes=[f"class {i}" for i in range(classes)], rate=50.0, source="Noise.",
    )  # fmt: skip


@pytest.fixture(scope="module")
def strokes():
    return simulate(0)


@pytest.fixture(scope="module")
def trained(strokes):
    return gesture.train_gesture(strokes, epochs=25, progress=False)


@pytest.mark.parametrize(
    ("lengths", "window"),
    [
        ([250] * 10, 256),
        ([64] * 10, 64),
        ([65] * 10, 96),
        ([5] * 10, 32),
        ([90, 100] * 9 + [2000], 128),
    ],
)
def test_the_window_holds_the_gestures(lengths, window):
    assert gesture.window_for(recordings(lengths)) == window


def test_the_network_is_as_small_as_it_says():
    net = gesture.gesture_net(3, 4, 128)
    assert sum(p.data.size for p in net.parameters()) == 7244
    assert net(Tensor(np.zeros((2, 3, 128), np.float32))).shape == (2, 4)
    assert gesture.gesture_net(6, 10, 256)(Tensor(np.zeros((1, 6, 256), np.float32))).shape == (
        1,
        10,
    )


def test_simulated_strokes_are_learned_and_survive_quantization(strokes, trained):
    net, history, features = trained
    assert len(history) == 25
    assert not net.training
    test = gesture.gesture_data(strokes, "test", features)
    accuracy = evaluate(net, DataLoader(test, batch_size=64)).accuracy
    assert accuracy >= 0.95
    data = gesture.quantize_gesture(trained, strokes)
    assert len(data) < 40 * 1024
    model = Model(data)
    assert (model.labels, model.features) == (strokes.classes, features)
    assert (model.input_shape, model.scale, model.zero_point) == ((128, 3), 1 / 64, 0)
    assert model.verify() == 4
    windows, labels = strokes.windows("test", 128)
    answers = model.run_batch(quantize_windows(windows, features)).argmax(1)
    assert abs(np.mean(answers == labels) - accuracy) <= 0.02


def test_the_same_seed_gives_the_same_network():
    some = recordings([40] * 40)
    nets = [gesture.train_gesture(some, seed, 2, progress=False).net for seed in (1, 1, 2)]
    first, again, other = (
        np.concatenate([p.data.ravel() for p in net.parameters()]) for net in nets
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_training_resumes(tmp_path, monkeypatch):
    some = recordings([40] * 40)
    straight = gesture.train_gesture(some, 3, 4, progress=False)
    whole = gesture.Varied.batch
    batches = []

    def cut(self, indices):
        batches.append(indices)
        if len(batches) == 5:  # each epoch takes one batch to train and one to validate
            raise KeyboardInterrupt
        return whole(self, indices)

    monkeypatch.setattr(gesture.Varied, "batch", cut)
    with pytest.raises(KeyboardInterrupt):
        gesture.train_gesture(some, 3, 4, progress=False, checkpoint=tmp_path / "kept")
    resumed = gesture.train_gesture(
        some, 3, 4, progress=False, checkpoint=tmp_path / "kept", resume=True
    )
    assert len(batches) == 9
    assert resumed.history == straight.history
    for a, b in zip(straight.net.parameters(), resumed.net.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_other_sensors_and_classes():
    some = recordings([100] * 30, channels=6, classes=3)
    net, _, features = gesture.train_gesture(some, epochs=1, progress=False)
    assert (features["channels"], features["window"], features["rate"]) == (6, 128, 50.0)
    assert Model(gesture.quantize_gesture(Trained(net, [], features), some)).output_shape == (3,)


def test_varied_windows_differ_and_keep_their_labels():
    some = recordings([128] * 6)
    windows, labels = some.windows("train", 128)
    data = gesture.Varied(windows, labels, motion_features(windows, 50))
    random.manual_seed(0)
    (x, y), (again, _) = data.batch(np.array([5, 0])), data.batch(np.array([5, 0]))
    assert y.data.tolist() == [labels[5], labels[0]]
    assert x.shape == (2, 3, 128)
    assert not np.array_equal(x.data, again.data)
    assert len(data) == 6


def test_without_training_data_it_says_so():
    some = recordings([40] * 10)
    with pytest.raises(ValueError, match="'train'"):
        gesture.train_gesture(replace(some, splits=np.array(["test"] * 10)), progress=False)
