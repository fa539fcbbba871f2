from dataclasses import replace

import numpy as np
import pytest

from tinytorch import serialize
from tinytorch.autograd.tensor import Tensor
from tinytorch.data.recordings import Recordings
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing import keyword
from tinytorch.sensing.keyword import SILENCE, Drawn, train_keyword
from tinytorch.sensing.mel import Features, Front, front_of, samples_of, sound_features
from tinytorch.train.trainer import evaluate
from tinytorch.utils.data import DataLoader

RATE = 8000


def words(each=48, rate=RATE, splits=("train", "train", "val", "test")):
    """Words of one tone each in noise, low or high, and silence, which is noise alone."""
    rng = np.random.default_rng(0)
    at, signals = np.arange(rate) / rate, []
    labels = np.arange(3 * each) % 3
    for label in labels:
        pitch = (0, 500, 1500)[label] * rng.uniform(0.9, 1.1)
        middle, size = 0.5 + rng.uniform(-0.1, 0.1), 10 ** rng.uniform(3, 4)
        word = size * np.sin(2 * np.pi * pitch * at) * (np.abs(at - middle) < 0.25)
        word += rng.normal(0, 10 ** rng.uniform(0, 2.5), rate)
        signals.append(word.astype(np.int16)[:, None])
    return Recordings(
        signals=signals, labels=labels, splits=np.resize(np.repeat(splits, 3), 3 * each),
        classes=[SILENCE, "low", "high"], rate=float(rate), source="Tones.",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Fewer clips and variants than in earnest."""
    monkeypatch.setattr(keyword, "DRAWN", 96)
    monkeypatch.setattr(keyword, "VARIED", 300)


@pytest.fixture(scope="module")
def spoken():
    return words()


def weights(trained):
    return np.concatenate([p.data.ravel() for p in trained.net.parameters()])


def test_the_network_is_as_small_as_it_says():
    net = keyword.keyword_net(20, 12)
    assert sum(p.data.size for p in net.parameters()) == 23756
    for frames in (46, 48, 96):
        x = np.zeros((2, 1, frames, 20), np.float32)
        assert net(Tensor(x)).shape == (2, 12)
    assert all(m.padding[0] == 0 for m in net if hasattr(m, "padding"))


def test_words_are_learned_and_survive_quantization(spoken, tmp_path, monkeypatch):
    monkeypatch.setattr(keyword, "DRAWN", 192)
    trained = train_keyword(spoken, epochs=30, width=16, progress=False)
    assert len(trained.history) == 30
    assert not trained.net.training
    keyword.save_keyword(tmp_path / "kept", trained, spoken.classes)
    trained, classes = keyword.load_keyword(tmp_path / "kept")
    assert classes == spoken.classes
    test = keyword.keyword_data(spoken, "test", trained.features)
    accuracy = evaluate(trained.net, DataLoader(test, batch_size=64)).accuracy
    assert accuracy >= 0.9
    clips, labels = spoken.clips("test", samples_of(trained.features))
    features = Features(trained.features)(clips)[..., None]
    for tier in ("exact", "lane"):
        net, vectors = keyword.quantized_keyword(trained, spoken, tier=tier)
        model = Model(to_bytes(net, vectors))
        assert (model.labels, model.scale, model.zero_point) == (spoken.classes, 1 / 32, 0)
        assert model.verify() == 3
        assert abs(np.mean(model.predict_batch(features) == labels) - accuracy) <= 0.06


def test_the_same_seed_gives_the_same_network(spoken):
    first, again, other = (
        weights(train_keyword(spoken, seed, 1, 8, progress=False)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_training_resumes(spoken, tmp_path, monkeypatch):
    straight = train_keyword(spoken, 3, 3, 8, progress=False)
    whole, batches = Drawn.batch, []

    def cut(self, indices):
        batches.append(indices)
        if len(batches) == 4:  # each epoch takes two
            raise KeyboardInterrupt
        return whole(self, indices)

    monkeypatch.setattr(Drawn, "batch", cut)
    kept = {"progress": False, "checkpoint": tmp_path / "kept"}
    with pytest.raises(KeyboardInterrupt):
        train_keyword(spoken, 3, 3, 8, **kept)
    resumed = train_keyword(spoken, 3, 3, 8, resume=True, **kept)
    assert len(batches) == 8
    assert resumed.history == straight.history
    np.testing.assert_array_equal(weights(resumed), weights(straight))


def test_classes_are_drawn_equally_often():
    labels = np.array([0] * 50 + [1] * 3 + [4] * 7)
    data = Drawn(np.zeros((2, 60, 48, 20), np.int8), labels)
    (_, drawn), *rest = DataLoader(data, batch_size=96, shuffle=True)
    assert not rest
    assert np.bincount(drawn.numpy()).tolist() == [32, 32, 0, 0, 32]
    x, y = data[1]
    assert (x.shape, y.item()) == ((1, 48, 20), 1)


def test_variants_are_of_the_word_but_never_the_same(spoken):
    clips, labels = spoken.clips("train", RATE)
    features = sound_features(clips, Front.usual(RATE), 20, 48)
    noise, chance = clips[labels == 0], np.random.default_rng(0)
    plain = Features(features)(spoken.clips("train", samples_of(features))[0]).astype(float)
    one, two = (keyword.varied(clips, noise, features, chance).astype(float) for _ in range(2))
    assert one.shape == plain.shape == (len(clips), 48, 20)
    assert np.abs(one - two).mean(axis=(1, 2)).min() > 1

    def alike(a, b):
        """How alike the spectra of clips are, over the whole clip."""
        return np.corrcoef(a.mean(1), b.mean(1))[: len(a), len(a) :]

    own = np.diag(alike(one[labels > 0], plain[labels > 0]))
    assert np.median(own) > 0.7


@pytest.mark.parametrize("values", [10, 20])
def test_features_are_standardized_and_rebuilt_from_settings(spoken, values):
    clips, _ = spoken.clips("train", RATE)
    features = sound_features(clips, Front.usual(RATE), values, 48)
    assert front_of(features) == Front.usual(RATE)
    assert samples_of(features) == 7840
    found = Features(features)(clips).reshape(-1, values) / 32
    assert np.abs(found.mean(0)).max() < 0.05
    assert np.abs(found.std(0) - 1).max() < 0.15


def test_digital_silence_has_features(spoken):
    silent = np.zeros((3, RATE), np.int16)
    features = sound_features(silent, Front.usual(RATE), 20, 48)
    assert np.all(Features(features)(silent) == 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 11025.0}, "11025 Hz cannot be trained on: record at 8000 or 16000"),
        ({"splits": np.array(["test"] * 144)}, "no recordings in the split 'train'"),
    ],
)
def test_bad_recordings_are_refused_in_one_sentence(spoken, change, said):
    with pytest.raises(ValueError, match=said):
        train_keyword(replace(spoken, **change), epochs=1, progress=False)


def test_another_file_is_no_keyword_network(tmp_path):
    serialize.save({"a": Tensor(np.zeros(1))}, tmp_path / "other", {"kind": "gesture"})
    with pytest.raises(ValueError, match="no trained keyword network"):
        keyword.load_keyword(tmp_path / "other")
