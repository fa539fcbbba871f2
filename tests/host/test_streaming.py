"""A network that takes a stream gives, at every step, what it gives on the newest window."""

import numpy as np
import pytest

from tests.networks import fill
from tests.operations import Reference
from tests.streams import STEPS, random_stream, with_sound
from tinytorch import nn
from tinytorch.export import to_bytes
from tinytorch.keyword import keyword_net
from tinytorch.machine import pack
from tinytorch.quantize import quantize
from tinytorch.runtime import Model
from tinytorch.streaming import stream
from tinytorch_core.model import MEL, MOVE
from tito.core import Core, CoreModel


@pytest.mark.parametrize("seed", range(24))
def test_every_step_gives_what_the_window_gives(seed):
    case = random_stream(seed)
    window, streaming = Model(to_bytes(case.window)), Model(to_bytes(case.streamed))
    rows = case.rows(2)
    steps = rows.reshape(2, STEPS, *streaming.input_shape)
    outputs = streaming.run_stream(steps)
    frames, step = window.input_shape[0], streaming.input_shape[0]
    compared = 0
    for i in range(STEPS):
        end = (i + 1) * step
        if end >= frames:
            expected = window.run_batch(rows[:, end - frames : end])
            assert np.array_equal(outputs[:, i], expected), i
            compared += 1
    assert compared > 2


@pytest.mark.parametrize("seed", range(3))
def test_numpy_equals_the_specification(seed):
    case = random_stream(seed, small=True)
    data = to_bytes(case.streamed)
    steps = case.rows(1).reshape(1, STEPS, *Model(data).input_shape)[:, :6]
    assert np.array_equal(Reference(data).run_batch(steps[0]), Model(data).run_stream(steps)[0])


def test_what_is_computed_once_costs_a_fraction():
    case = random_stream(0)
    kinds = [operation.node.kind for operation in case.streamed.operations]
    assert MOVE in kinds and kinds[-1] != MOVE


@pytest.mark.parametrize("tier", ["exact", "lane"])
def test_a_keyword_network_steps_on_the_core(tier):
    rng = np.random.default_rng(3)
    net = keyword_net(10, 12)
    fill(net, rng)
    net.eval()
    x = rng.normal(0, 1, (32, 1, 48, 10))
    data = to_bytes(stream(quantize(net, x, name="words", labels=[], tier=tier), 4))
    steps = rng.integers(-128, 128, (1, 14, 4, 10, 1)).astype(np.int8)
    expected = Model(data).run_stream(steps)[0]
    core = CoreModel(pack.attach(data, pack.ARMV6M))
    for _ in range(2):
        cycles = 0
        for given, wanted in zip(steps[0], expected, strict=True):
            output, each = core.run(given)
            assert np.array_equal(output, wanted)
            cycles = sum(each)
        core.reset()
    assert cycles < {"lane": 580_000, "exact": 1_050_000}[tier]
    assert abs(pack.plan(Model(data)).cycles / cycles - 1) < 0.05


def test_streams_of_other_shapes_step_on_the_core():
    core, machine = Core(), 0
    for seed in range(8):
        case = random_stream(seed + 50, small=True)
        data = pack.attach(to_bytes(case.streamed), pack.ARMV6M)
        try:
            model = CoreModel(data, core)
        except ValueError:  # what is kept are no whole words: MOVE runs in viper
            continue
        steps = case.rows(1).reshape(STEPS, *Model(data).input_shape)
        expected = Model(data).run_stream(steps[None])[0]
        for given, wanted in zip(steps, expected, strict=True):
            assert np.array_equal(model.run(given)[0], wanted)
        machine += 1
    assert machine > 2


def test_sound_in_front_gives_the_features_of_its_frames():
    case = random_stream(4)
    listening, features = with_sound(case.streamed, seed=4)
    model, plain = Model(to_bytes(listening)), Model(to_bytes(case.streamed))
    assert [op.kind for op in model.operations].count(MEL) == 1
    sound = np.random.default_rng(0).normal(0, 3000, (2, STEPS, *model.input_shape)).astype("i2")
    heard = np.concatenate([np.zeros((2, features.kept), "i2"), sound.reshape(2, -1)], 1)
    rows = features(heard).reshape(2, STEPS, *plain.input_shape)
    assert np.array_equal(model.run_stream(sound), plain.run_stream(rows))


def test_a_reset_forgets_and_vectors_are_steps():
    case = random_stream(1)
    listening, _ = with_sound(case.streamed, seed=1)
    shape = Model(to_bytes(listening)).input_shape
    steps = np.random.default_rng(0).normal(0, 9000, (5, *shape)).astype(np.int16)
    model = Model(to_bytes(listening, steps))
    assert model.vectors == 5 and model.verify() == 5 and model.verify() == 5
    once = [model.predict(step.tobytes()) for step in steps], bytes(model.output)
    model.reset()
    assert once == ([model.predict(step.tobytes()) for step in steps], bytes(model.output))


def net_of(*layers: nn.Module):
    net = nn.Sequential(*layers)
    fill(net, np.random.default_rng(0))
    net.eval()
    x = np.random.default_rng(1).normal(0, 1, (8, 1, 16, 6))
    return quantize(net, x, name="some", labels=[])


@pytest.mark.parametrize(
    ("layers", "step", "says"),
    [
        ([nn.Conv2d(1, 2, 3, padding=1)], 4, "pads in time"),
        ([nn.Conv2d(1, 2, 3, stride=2)], 3, "do not divide its 3 new ones"),
        ([nn.Conv2d(1, 2, 3, stride=2)], 4, "leaves the newest of its 16 rows out"),
        ([nn.Conv2d(1, 2, 3)], 0, "give 1 to 16"),
        ([nn.Conv2d(1, 2, 3)], 17, "give 1 to 16"),
    ],
)
def test_what_cannot_run_as_a_stream_says_why(layers, step, says):
    with pytest.raises(ValueError, match=says):
        stream(net_of(*layers), step)


def test_other_input_is_refused():
    case = random_stream(2)
    listening, _ = with_sound(case.streamed, seed=2)
    model = Model(to_bytes(listening))
    with pytest.raises(ValueError, match="takes int16 inputs of shape"):
        model.run_stream(np.zeros((1, 2, *model.input_shape), np.int8))
