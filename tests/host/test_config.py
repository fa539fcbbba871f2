import numpy as np
import pytest

import tinytorch
from tests.conftest import ROOT
from tinytorch import nn, serialize
from tinytorch.recipes import config, networks, run
from tinytorch.recipes.config import Config, from_table
from tinytorch.train.trainer import Trainer, evaluate
from tinytorch.utils.data import DataLoader

# The schema.


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("optimizer.lrr=3", "there is no setting 'optimizer.lrr': the nearest is 'optimizer.lr'"),
        ("lr=3", "there is no setting 'lr': the nearest is 'optimizer.lr'"),
        ("train.lr=3", "no setting 'train.lr': the nearest is 'optimizer.lr'"),
        ("optimiser.lr=3", "no setting 'optimiser': the nearest is 'optimizer'"),
        ("zzz=1", "there are seed, data, model, optimizer, schedule, train, output"),
        ("output.qqq=1", "there are output.folder, output.picture, output.statistics"),
        ("optimizer=3", "'optimizer' is 3: write a section"),
        ("seed.a=3", "'seed' is {\"a\" = 3}: write a whole number of at least 0"),
        ("optimizer.lr=0", "'optimizer.lr' is 0: write a number above 0"),
        ("optimizer.lr=-1e-3", "'optimizer.lr' is -0.001: write a number above 0"),
        ("optimizer.lr=nan", "'optimizer.lr' is nan: write a number above 0"),
        ("optimizer.lr=fast", "'optimizer.lr' is \"fast\": write a number above 0"),
        ("data.test=1", "'data.test' is 1: write a number above 0 and below 1"),
        ("train.epochs=2.5", "'train.epochs' is 2.5: write a whole number of at least 1"),
        ("train.epochs=true", "'train.epochs' is true: write a whole number"),
        ("train.capture=1", "'train.capture' is 1: write true or false"),
        (
            "model.kind=cnm",
            "write mlp, cnn, ds-cnn, transformer, gesture or layers .the nearest is",
        ),
        (
            "model.hidden=3",
            r"'model.hidden' is 3: write a list of whole numbers, such as \[64, 32\]",
        ),
        ("model.hidden=[0]", "write a whole number of at least 1"),
        ("model.layers=[3]", "write a table such as {type"),
        ("seed", "'seed' changes no setting: write it as optimizer.lr=0.01"),
        ("data.path=1979-05-27", "never raised"),
    ],
)
def test_what_is_no_setting_is_named(change, says):
    if says == "never raised":  # text may look like anything
        assert from_table({}, [change]).data.path == "1979-05-27"
        return
    with pytest.raises(ValueError, match=says) as caught:
        from_table({}, [change])
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_file_and_changes_to_it(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text('seed = 3\n[optimizer]\nlr = 1\n[model]\nhidden = [8]\n[data]\npath = "a b"\n')
    settings = config.read(path, ["optimizer.lr=0.5", "output.folder=12", 'data.label="x=y"'])
    assert (settings.seed, settings.optimizer.lr, settings.model.hidden) == (3, 0.5, [8])
    assert (settings.data.path, settings.output.folder) == ("a b", "12")
    assert settings.data.label == "x=y"
    assert settings.train == config.Train()
    assert Config().model.hidden == [128]  # nobody else's list was changed
    assert config.differences(settings, Config())[:2] == ["seed", "data.path"]
    path.write_text("seed = = 3")
    with pytest.raises(ValueError, match="train.toml is not TOML: .*line 1"):
        config.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="train.toml is not TOML"):
        config.read(path)
    path.write_text("[train]\nepoch = 3")
    with pytest.raises(
        ValueError, match="In train.toml, there is no setting 'train.epoch': .*epochs"
    ):
        config.read(path)
    with pytest.raises(FileNotFoundError, match="There is no configuration .*nothing.toml"):
        config.read(tmp_path / "nothing.toml")


def test_what_was_resolved_reads_as_it_was(tmp_path):
    odd = 'a"\\ \n\x7f Ä'
    layers = [{"type": "Conv1d", "out": 3, "bias": False, "kernel": [3]}, {"type": "ReLU"}]
    settings = from_table({"data": {"path": odd}, "model": {"layers": layers}})
    settings.optimizer.lr = 1e-30
    path = tmp_path / "config.toml"
    path.write_text(config.dumps(settings), encoding="utf-8")
    assert config.read(path) == settings
    example = config.read(ROOT / "examples" / "digits" / "train.toml")
    assert example.model.kind == "cnn"


# Networks.


def net_of(kind, shape, outputs=3, **settings):
    net = networks.build_net(config.Model(kind=kind, **settings), shape, outputs)
    x = tinytorch.zeros(2, *shape)
    assert net.eval()(x).shape == (2, outputs)
    return net


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("mlp", [(5,), (3, 4), (2, 3, 4)]),
        ("cnn", [(2, 9), (1, 1), (1, 8, 8), (3, 1, 5)]),
        ("ds-cnn", [(2, 9), (3, 5, 5)]),
        ("transformer", [(2, 9), (1, 4, 6)]),
        ("gesture", [(3, 32)]),
    ],
)
def test_every_network_fits_its_data(kind, shapes):
    for shape in shapes:
        net_of(kind, shape)
    if kind != "mlp":
        with pytest.raises(ValueError, match=rf"The model {kind} wants .*\(7,\): choose another"):
            net_of(kind, (7,))


def test_networks_are_as_large_as_they_say():
    net = net_of("mlp", (4,), hidden=[8, 6], dropout=0.5)
    assert [type(m).__name__ for m in net] == [
        "Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear",
    ]  # fmt: skip
    assert sum(p.numel() for p in net.parameters()) == 5 * 8 + 9 * 6 + 7 * 3
    depthwise = net_of("ds-cnn", (1, 8, 8), channels=[4, 6])[3]
    assert (depthwise.groups, depthwise.weight.shape) == (4, (4, 1, 3, 3))


def test_a_list_of_layers():
    layers = [
        {"type": "Conv1d", "out": 4, "kernel": 5, "padding": 2}, {"type": "BatchNorm1d"},
        {"type": "GELU"}, {"type": "Conv1d", "out": 4, "kernel_size": [3], "groups": "in"},
        {"type": "MaxPool1d", "kernel": 2, "stride": 2}, {"type": "Flatten"},
        {"type": "LayerNorm"}, {"type": "Dropout", "p": 0.5},
        {"type": "Linear", "out": 8, "bias": False}, {"type": "Tanh"}, {"type": "Linear"},
    ]  # fmt: skip
    net = net_of("layers", (2, 16), layers=layers)
    assert net[0].weight.shape == (4, 2, 5) and net[3].groups == 4
    assert net[6].normalized_shape == (28,) and net[8].bias is None


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([], "'model.layers' is empty"),
        (
            [{"type": "Conv3d"}],
            r"'model.layers\[0\]' has no known type, but \"Conv3d\": .* Conv[12]d",
        ),
        ([{"out": 3}], "has no known type, but null: there are AdaptiveAvgPool1d"),
        ([{"type": "Linear"}, {"type": "Linaer"}], r"layers\[1\].*Linaer.*the nearest is Linear"),
        ([{"type": "Sequential"}], 'no known type, but "Sequential"'),
        (
            [{"type": "Conv1d", "out": 3, "kernal": 5}],
            "no setting 'kernal': the nearest is 'kernel",
        ),
        ([{"type": "ReLU", "out": 3}], r"\(ReLU\) has no setting 'out'"),
        ([{"type": "Conv1d", "out": 3}], r"\(Conv1d\) has no 'kernel': give it one"),
        ([{"type": "Conv1d", "out": "3", "kernel": 5}], r"\(Conv1d\) cannot be made: "),
        ([{"type": "Conv1d", "out": 3, "kernel": 99}], r"'model.layers\[0\]' does not fit samples"),
        ([{"type": "Conv2d", "out": 3, "kernel": 3}], "does not fit samples .2, 16"),
        ([{"type": "Linear", "out": 3}], r"shape \(2, 3\) for one sample.* ask for \(3,\): end"),
    ],
)
def test_bad_layers_are_named(layers, says):
    with pytest.raises(ValueError, match=says) as caught:
        net_of("layers", (2, 16), layers=layers)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


# Data.


def spirals(count=120):
    rng = np.random.default_rng(2)
    y = np.arange(count) % 2
    turn = rng.uniform(0.5, 3, count)
    x = np.stack([turn * np.cos(3 * turn + y * np.pi), turn * np.sin(3 * turn + y * np.pi)], 1)
    return (100 * x + 1000).astype(np.float32), y


def settings_of(folder, **sections):
    return from_table({"output": {"folder": str(folder), "picture": False}, **sections})


def test_the_parts_of_data_share_nothing_and_depend_on_the_seed_only(tmp_path):
    x, y = spirals()
    np.savez(tmp_path / "d.npz", x=x, y=y)
    wanted = config.Data(source="npz", path=str(tmp_path / "d.npz"))
    parts = run.load_data(wanted, 1)
    sizes = [len(part) for part in parts[:3]]
    assert sizes == [82, 14, 24]
    seen = [row for part in parts[:3] for row in part.batch(np.arange(len(part)))[0].tolist()]
    assert sorted(seen) == sorted(x.tolist())
    again, other = run.load_data(wanted, 1), run.load_data(wanted, 2)
    first = [p.test.batch(np.arange(24))[0].tolist() for p in (parts, again, other)]
    assert first[0] == first[1] != first[2]
    wanted.standardize = True
    parts = run.load_data(wanted, 1)
    every = np.concatenate([p.batch(np.arange(len(p)))[0].data for p in parts[:2]])
    np.testing.assert_allclose(every.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(every.std(0), 1, rtol=1e-5)


def test_tables_with_names_and_with_numbers(tmp_path):
    x, y = spirals()
    rows = [f"{a},{b},{'even' if c == 0 else 'odd'}" for (a, b), c in zip(x, y, strict=True)]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,kind", *rows]))
    parts = run.load_data(config.Data(source="csv", path=str(tmp_path / "d.csv")), 0)
    assert (parts.classes, parts.shape, parts.outputs) == (["even", "odd"], (2,), 2)
    rows = [f"{c},{a},{a / 2 + 1}" for a, c in zip(x[:, 0], y, strict=True)]
    (tmp_path / "d.csv").write_text("\n".join(["kind,a,half", *rows]))
    result = run.run(
        settings_of(
            tmp_path / "out",
            data={"source": "csv", "path": str(tmp_path / "d.csv"), "standardize": True},
            train={"epochs": 30, "metrics": ["mae"], "loss": "huber"},
            model={"hidden": [16]}, optimizer={"lr": 0.05},
        )
    )  # fmt: skip
    assert result["accuracy"] is None and result["classes"] == [] and result["mae"] > 0
    net, about = run.load_net(tmp_path / "out" / "model.safetensors")
    at = (np.array([[0, 1000.0]]) - about["mean"]) / about["std"]
    assert net(tinytorch.tensor(at.astype(np.float32))).shape == (1, 1)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.ones((9, 2))}, "d.npz has no y: it has x"),
        ({"x": np.ones((9, 2)), "y": np.array(["a"] * 9)}, "holds no numbers in x or in y"),
        ({"x": np.ones(9), "y": np.ones(9)}, r"has x of shape \(9,\): write \(samples, ...\)"),
        ({"x": np.ones((9, 2)), "y": np.ones(8)}, r"has x \(9, 2\) and y \(8,\): write one y"),
        ({"x": np.diag([1, np.inf, 1]), "y": np.ones(3)}, "NaN or infinity in sample 1"),
        ({"x": np.ones((9, 2)), "y": np.full(9, np.nan)}, "NaN or infinity among y"),
        ({"x": np.ones((9, 2)), "y": np.arange(-1, 8)}, "has the class -1: write classes from 0"),
        ({"x": np.ones((9, 2)), "y": np.zeros(9, int)}, "has one class only"),
        ({"x": np.ones((9, 2)), "y": np.full(9, 10**9)}, "has the class 1000000000 in 9 samples"),
        ({"x": np.ones((9, 2)), "y": np.ones((9, 1), int)}, "write one class a sample"),
        ({"x": np.ones((2, 2)), "y": np.arange(2)}, "2 samples are too few for the splits"),
    ],
)
def test_bad_data_are_named(tmp_path, arrays, says):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError, match=says):
        run.load_data(config.Data(source="npz", path=str(tmp_path / "d.npz")), 0)


# Whole trainings.


def test_a_whole_training_and_what_it_leaves(tmp_path):
    settings = settings_of(
        tmp_path / "out",
        output={
            "folder": str(tmp_path / "out"), "statistics": True, "tensorboard": True,
        },
        model={"kind": "cnn", "channels": [8, 16], "dropout": 0.1},
        optimizer={"lr": 0.005, "kind": "adamw", "weight_decay": 0.01},
        schedule={"warmup": 1},
        train={"epochs": 6, "metrics": ["f1", "top3"], "label_smoothing": 0.05, "clip_norm": 5},
    )  # fmt: skip
    result = run.run(settings)
    assert result["accuracy"] > 0.95 and result["top3"] > result["f1"] > 0.95
    there = run.files(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in there}
    assert config.read(there.config) == settings
    net, about = run.load_net(there.model)
    data = run.load_data(settings.data, 0)
    assert evaluate(net, DataLoader(data.test, 64)).accuracy == result["accuracy"]
    assert about["classes"] == [str(i) for i in range(10)]
    # The folder tells all that it takes to do it again.
    again = config.read(there.config, [f"output.folder={tmp_path / 'again'}"])
    assert {**run.run(again), "out": 0, "seconds": 0} == {**result, "out": 0, "seconds": 0}
    for name in ("history", "statistics"):
        same = getattr(run.files(tmp_path / "again"), name).read_bytes()
        assert same == getattr(there, name).read_bytes()
    with pytest.raises(ValueError, match="no network that was trained by a configuration"):
        run.load_net(there.checkpoint)


def test_a_training_is_resumed_by_the_same_configuration_only(tmp_path):
    def settings(folder, epochs, **optimizer):
        train = {"epochs": epochs, "checkpoint_every": 2}
        schedule = {"kind": "constant"}
        data = {"source": "digits", "batch_size": 128}
        return settings_of(
            tmp_path / folder, train=train, schedule=schedule, data=data, optimizer=optimizer
        )

    with pytest.raises(FileNotFoundError, match="config.toml to resume from: train without"):
        run.run(settings("cut", 3), resume=True)
    run.run(settings("cut", 1))
    with pytest.raises(ValueError, match="'optimizer.lr' was 0.001 when .* and is 0.01 now"):
        run.run(settings("cut", 3, lr=0.01), resume=True)
    cut, whole = run.run(settings("cut", 3), resume=True), run.run(settings("whole", 3))
    assert cut["loss"] == whole["loss"]
    models = [serialize.load(run.files(tmp_path / f).model) for f in ("cut", "whole")]
    for name, tensor in models[0].items():
        assert tensor.data.tobytes() == models[1][name].data.tobytes()


def test_xor_by_a_configuration(tmp_path):
    result = run.run(
        settings_of(
            tmp_path, data={"source": "xor"}, model={"hidden": [8]},
            optimizer={"lr": 0.05}, train={"epochs": 100}, schedule={"kind": "constant"},
        )
    )  # fmt: skip
    assert result["accuracy"] == 1 and result["samples"] == 4


@pytest.mark.parametrize(
    ("change", "rates"),
    [
        (["schedule.kind=constant"], [0.01] * 4),
        (["schedule.kind=constant", "schedule.warmup=2"], [0.01 / 3, 0.02 / 3, 0.01, 0.01]),
        (["schedule.kind=step", "schedule.step_size=2"], [0.01, 0.01, 0.001, 0.001]),
        (["schedule.kind=cosine", "train.epochs=2"], [0.01, 0.005]),
        (["schedule.kind=cosine", "schedule.warmup=2"], [0.01 / 3, 0.02 / 3, 0.01, 0.005]),
        (["schedule.kind=plateau"], [0.01] * 4),
        (["schedule.kind=one-cycle", "train.epochs=10"], None),
    ],
)
def test_schedules_by_name(tmp_path, change, rates):
    base = ["data.source=xor", "optimizer.lr=0.01", "train.epochs=4", "output.picture=false"]
    settings = from_table({}, [*base, f"output.folder={tmp_path}", *change])
    run.run(settings)
    lines = (tmp_path / "history.csv").read_text().splitlines()[1:]
    seen = [float(line.split(",")[1]) for line in lines]
    if rates is None:
        assert max(seen) == pytest.approx(0.01) and seen[0] < max(seen) > seen[-1]
    else:
        assert seen == pytest.approx(rates)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["data.source=npz"], "'data.path' is empty: with npz it names the file"),
        (["train.loss=mse"], "'train.loss' is mse, and the targets are classes: use auto"),
        (["train.metrics=[\"f2\"]"], "'train.metrics' has \"f2\": the nearest is f1"),
        (["train.metrics=[\"mae\"]"], "'train.metrics' has mae, and the targets are classes"),
        (["optimizer.momentum=0.9"], "'optimizer.momentum' is for sgd and rmsprop, not for adam"),
        (["schedule.warmup=20"], "'schedule.warmup' is 20: it needs more than so many epochs"),
        (["schedule.kind=plateau", "schedule.warmup=1"], "a schedule other than plateau"),
        (["model.kind=cnn"], r"The model cnn wants signals or images, .* the shape \(2,\)"),
        (["model.kind=layers"], "'model.layers' is empty"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(tmp_path, changes, says):
    changes = ["data.source=xor", f"output.folder={tmp_path / 'out'}", *changes]
    with pytest.raises(ValueError, match=says):
        run.run(from_table({}, changes))
    assert not [*tmp_path.iterdir()]


def test_capture_makes_no_difference(tmp_path):
    ends = []
    for capture in (True, False):
        settings = settings_of(
            tmp_path / str(capture), model={"kind": "transformer", "width": 16, "depth": 1},
            train={"epochs": 2, "capture": capture}, data={"batch_size": 256},
        )  # fmt: skip
        run.run(settings)
        ends.append(serialize.load(run.files(tmp_path / str(capture)).model))
    assert {n: t.tolist() for n, t in ends[0].items()} == {
        n: t.tolist() for n, t in ends[1].items()
    }


def test_a_net_of_a_configuration_is_an_ordinary_net():
    net = net_of("mlp", (2,))
    assert isinstance(net, nn.Module)
    assert Trainer(net, run.build_optimizer(config.Optimizer(kind="sgd"), net)).history == []
