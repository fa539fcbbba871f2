"""`tito train CONFIG.toml` as its users meet it: real processes, Ctrl-C, kills and bad input."""

import csv
import json
import signal
import time

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.host.test_quantize import forward
from tests.tools.test_cli import Place, assert_one_sentence, write
from tinytorch import serialize
from tinytorch.data.simulator import simulate
from tinytorch.modelfile.runtime import Model
from tinytorch.recipes import run as recipes

EXAMPLE = ROOT / "examples" / "digits" / "train.toml"
SMALL = """
[data]
source = "npz"
path = "clouds.npz"
[model]
kind = "cnn"
channels = [8]
dropout = 0.2
[train]
epochs = {epochs}
checkpoint_every = 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("place"))
    place.environment |= {"TINYTORCH_FAST": "0", "OPENBLAS_NUM_THREADS": "1"}
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 800)
    x = rng.normal(size=(800, 2, 24)) + np.sin(np.arange(24) * (y[:, None, None] + 1))
    np.savez(place.folder / "clouds.npz", x=x, y=y)
    (place.folder / "small.toml").write_text(SMALL.format(epochs=3))
    return place


def tensors(path):
    return {name: t.data.tobytes() for name, t in serialize.load(path).items()}


def test_the_example(place):
    figures, said = place.good("train", EXAMPLE, "--set", "train.epochs=5")
    assert figures["accuracy"] > 0.95 and figures["f1"] > 0.95
    assert (figures["out"], figures["epochs"], figures["samples"]) == ("digits", 5, 359)
    assert {"loss", "best_epoch", "parameters", "seconds", "data", "classes"} <= set(figures)
    assert "accuracy, float" in said and "samples that were not trained on" in said
    assert "wrote      digits: checkpoint.safetensors, config.toml, curves.png" in said
    there = recipes.files(place.folder / "digits")
    assert there.picture.read_bytes().startswith(b"\x89PNG")
    with there.history.open(newline="") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, 6))
    # The resolved configuration does it again.
    again, _ = place.good("train", "digits/config.toml", "--out", "again")
    assert again["loss"] == figures["loss"] and again["out"] == "again"
    assert tensors(place.folder / "again" / "model.safetensors") == tensors(there.model)


def test_a_network_by_configuration_becomes_a_model_file(place):
    place.good("train", "small.toml", "--out", "net", "--set", "train.epochs=12")
    exact, _ = place.good("quantize", "net/model.safetensors", "--name", "clouds")
    assert exact["out"] == "clouds.tt" and exact["vectors"] == 3
    lane, said = place.good(
        "quantize", "net/model.safetensors", "--out", "lane.tt", "--tier", "lane", "--group", 10
    )
    assert [row["tier"] for row in exact["layers"]] == ["exact", "exact"]
    assert [(row["tier"], row["group"]) for row in lane["layers"]] == [("lane", 6), ("lane", 10)]
    assert lane["kept_exact"] == [] and "in groups of 10" in said
    net, _ = recipes.load_net(place.folder / "net" / "model.safetensors")
    x = np.load(place.folder / "clouds.npz")["x"].astype(np.float32)
    answers = forward(net, x).argmax(1)
    for file, kind in (("clouds.tt", "clouds"), ("lane.tt", "cnn")):
        model = Model(place.folder / file)
        assert (model.name, model.labels, model.features) == (kind, ["0", "1", "2"], None)
        assert model.verify() == 3
        assert (model.predict_batch(np.moveaxis(x, 1, -1)) == answers).mean() > 0.97
    # Too wide for lanes: it says so, and stays exact.
    wide = ("--set", "model.kind=mlp", "--set", "model.hidden=[2000]", "--set", "train.epochs=1")
    place.good("train", "small.toml", "--out", "wide", *wide)
    lane, said = place.good("quantize", "wide/model.safetensors", "--tier", "lane")
    (reason,) = lane["kept_exact"]
    assert reason.startswith("Layer 4 Linear stays exact: its weights would keep ")
    assert reason in said
    assert [row["tier"] for row in lane["layers"]] == ["lane", "exact"]


def test_standardized_inputs_are_said_in_the_file(place):
    words = ("--set", "data.standardize=true", "--set", "train.epochs=1")
    place.good("train", "small.toml", "--out", "even", *words)
    place.good("quantize", "even/model.safetensors", "--out", "even.tt")
    features = Model(place.folder / "even.tt").features
    assert features["kind"] == "standardized"
    assert np.shape(features["mean"]) == np.shape(features["std"]) == (2, 24)


def test_gestures_by_another_network(place):
    recordings = simulate(2)
    file = write(place.folder / "strokes.npz", recordings)
    (place.folder / "strokes.toml").write_text(
        f'[data]\nsource = "gesture"\npath = "{file}"\n[model]\nkind = "cnn"\n[train]\nepochs = 2'
    )
    place.good("train", "strokes.toml", "--out", "strokes")
    figures, _ = place.good("quantize", "strokes/model.safetensors", "--tier", "lane")
    model = Model(place.folder / figures["out"])
    assert model.features["kind"] == "motion" and (model.scale, model.zero_point) == (1 / 64, 0)
    figures, _ = place.good("evaluate", "cnn.tt", "--data", file)
    assert figures["accuracy_int8"] > 0.5


def test_what_cannot_be_quantized(place):
    place.good("train", "small.toml", "--out", "seq", "--set", "model.kind=transformer",
               "--set", "train.epochs=1")  # fmt: skip
    place.good("train", "small.toml", "--out", "small", "--set", "train.epochs=1")
    np.savez(place.folder / "other.npz", x=np.ones((40, 2, 9)), y=np.arange(40) % 3)
    small = "small/model.safetensors"
    for status, says, *words in (
        (1, "Layer permute cannot run on a kit: use Conv", "seq/model.safetensors"),
        (1, "(2, 24) and 3: give its own data", small, "--data", "other.npz"),
        (2, "--bits and --group are for --tier lane", small, "--bits", "7"),
        (2, "choose from", small, "--tier", "fast"),
        (2, "choose from", small, "--tier", "lane", "--bits", "6"),
        (2, "there is no folder", small, "--out", "no/a.tt"),
        (2, "cannot name a model", small, "--name", "a b"),
        (1, "not a safetensors file", "clouds.npz"),
    ):
        place.bad(status, says, "quantize", *words)


def test_killed_and_resumed_to_the_bit(place):
    place.good("train", "small.toml", "--out", "whole", "--set", "train.epochs=16")
    words = ("train", "small.toml", "--out", "cut", "--set", "train.epochs=16")
    killed = 0
    while killed < 3:
        checkpoint = place.folder / "cut" / "checkpoint.safetensors"
        more = ["--resume"] if checkpoint.exists() else []
        before = checkpoint.stat().st_mtime_ns if more else 0
        with place.start(*words, *more) as process:
            while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
                assert process.poll() is None, process.communicate()
                time.sleep(0.005)
            time.sleep(0.1 * killed)
            process.send_signal(signal.SIGKILL if killed < 2 else signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert process.returncode == (-signal.SIGKILL if killed < 2 else 1)
        if killed == 2:
            assert_one_sentence(said)
            assert "Interrupted" in said
        killed += 1
    figures, _ = place.good(*words, "--resume")
    assert figures["epochs"] == 16
    models = [tensors(place.folder / run / "model.safetensors") for run in ("whole", "cut")]
    assert models[0] == models[1]
    histories = [(place.folder / run / "history.csv").read_text() for run in ("whole", "cut")]
    assert histories[0] == histories[1]
    place.bad(1, "'model.channels' was [8] when the training began", *words, "--resume", "--set",
              "model.channels=[9]")  # fmt: skip
    broken = place.folder / "cut" / "checkpoint.safetensors"
    broken.write_bytes(broken.read_bytes()[:-7])
    place.bad(1, "checkpoint.safetensors is not a safetensors file, or", *words, "--resume")


def test_gestures_by_a_configuration_are_quantized_as_ever(place):
    data = write(place.folder / "strokes.npz", simulate(1))
    (place.folder / "wand.toml").write_text(
        '[data]\nsource = "gesture"\npath = "strokes.npz"\nbatch_size = 64\n'
        '[model]\nkind = "gesture"\n[optimizer]\nlr = 0.004\n'
        '[train]\nepochs = 3\n[output]\nfolder = "wand"\n'
    )
    figures, _ = place.good("train", "wand.toml")
    assert figures["accuracy"] > 0.5 and "negative" not in figures["out"]
    words = ("quantize", "wand/model.safetensors", "--data", data, "--out", "wand.tt")
    assert place.good(*words)[0]["model_bytes"] > 7000
    assert (place.folder / "wand.tt").exists()


def test_numbers_that_are_none_end_in_a_sentence(place):
    x = np.ones((60, 3))
    np.savez(place.folder / "huge.npz", x=3e38 * x, y=np.arange(60) % 2)
    place.bad(1, "it began in the layer '1' (Linear)", "train", "small.toml", "--out", "huge",
              "--set", "data.path=huge.npz", "--set", "model.kind=mlp")  # fmt: skip
    x[7] = np.nan
    np.savez(place.folder / "nan.npz", x=x, y=np.arange(60) % 2)
    place.bad(1, "nan.npz has NaN or infinity in sample 7", "train", "small.toml", "--out", "nan",
              "--set", "data.path=nan.npz", "--set", "model.kind=mlp")  # fmt: skip
    assert not (place.folder / "nan").exists()


def test_a_full_disk_leaves_no_halves(place):
    place.bad(1, "checkpoint.safetensors: File too large", "train", "small.toml", "--out", "full",
              limit=3000)  # fmt: skip
    left = {path.name for path in (place.folder / "full").iterdir()}
    assert left == {"config.toml"}


@pytest.mark.parametrize(
    ("status", "words", "says"),
    [
        (2, "nothing.toml", "There is no configuration nothing.toml"),
        (2, "small.toml --epochs 3", "use --set train.epochs="),
        (2, "small.toml --data a.npz", "use --set data.path="),
        (2, "--set optimizer.lr=1", "--set changes a configuration: give its file"),
        (2, "small.toml --out small.toml", "small.toml is a file: 'output.folder' names"),
        (2, "small.toml --resume --out never", "config.toml to resume from"),
        (1, "clouds.npz", "clouds.npz is not TOML"),
        (1, "small.toml --set lr=1", "no setting 'lr': the nearest is 'optimizer.lr'"),
        (1, "small.toml --set optimizer.lr=0", "'optimizer.lr' is 0: write a number above 0"),
        (1, "small.toml --set model.kind=cmm", "write mlp, cnn, ds-cnn, transformer, gesture"),
        (2, "small.toml --set data.path=no.npz --out n", "There is no data file no.npz"),
        (1, "small.toml --set data.path=small.toml --out n", "The data file small.toml cannot be"),
        (1, "small.toml --set schedule.warmup=9 --out n", "'schedule.warmup' is 9"),
        (1, 'small.toml --set train.metrics=["mse"] --out n', "'train.metrics' has mse"),
        (1, "small.toml --out small.toml/n", "small.toml/n: Not a directory"),
    ],
)  # fmt: skip
def test_wrong_use(place, status, words, says):
    start = time.monotonic()
    place.bad(status, says, "train", *words.split())
    assert time.monotonic() - start < 6
    assert not (place.folder / "n").exists()


def test_the_json_of_an_error_is_one_object_too(place):
    run = place.run("train", "small.toml", "--set", "a=1", "--json")
    assert "there is no setting 'a'" in json.loads(run.stdout)["error"]
