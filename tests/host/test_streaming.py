"""A network of a stream gives, byte for byte, what that of a window gives on the newest rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import fill
from tests.operations import Reference
from tests.streams import random_case
from tinytorch import nn
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import QuantizedNet
from tinytorch.quantize.streaming import stream, with_sound
from tinytorch.sensing.mel import Features, Front, sound_features, tables_of
from tinytorch_core.model import MOVE

TIERS = ("exact", "lane")


@pytest.mark.parametrize("tier", TIERS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_stream_equals_its_window_at_every_step(tier, seed):
    case = random_case(seed, tier)
    window, model = Model(to_bytes(case.window)), Model(to_bytes(case.stream))
    found = model.run_stream(case.x)
    for step in range(case.warm, case.x.shape[1] + 1):
        expected = window.run_batch(case.rows_until(step))
        np.testing.assert_array_equal(found[:, step - 1], expected)


@pytest.mark.parametrize("seed", range(20))
def test_numpy_equals_the_specification_from_the_first_step(seed):
    case = random_case(seed, TIERS[seed % 2])
    data = to_bytes(case.stream)
    reference = Reference(data)
    for x, expected in zip(case.x, Model(data).run_stream(case.x), strict=True):
        reference.reset()
        np.testing.assert_array_equal(reference.run_batch(x), expected)


def test_a_row_is_computed_once():
    net = of(
        nn.Conv2d(1, 3, (4, 3), (2, 1), (0, 1)), nn.ReLU(), nn.Conv2d(3, 3, 3, groups=3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2), rows=20,
    )  # fmt: skip
    made = stream(net, 4)
    rows = [(o.node.in_h, o.node.out_h) for o in made.operations]
    assert rows == [(6, 2), (4, 2), (7, 1), (1, 1)]
    row = 6 * 3
    assert [made.kept, *(o.kept for o in made.operations)] == [2 * 6, 2 * row, 5 * 4 * 3, 0, 0]
    model = Model(to_bytes(made))
    assert len(model.input) == 4 * 6
    sizes = sorted((new - at, end - at) for at, new, end in model.histories)
    assert sizes == [(2 * 6, 6 * 6), (2 * row, 4 * row), (5 * 12, 7 * 12)]


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 3, (12, 6)), nn.AdaptiveAvgPool2d(1)])
def test_one_layer_takes_a_stream(layer):
    """What puts out the answer is also what reads the input."""
    net = of(layer)
    model, window = Model(to_bytes(stream(net, 5))), Model(to_bytes(net))
    x = np.random.default_rng(0).integers(-128, 128, (2, 4, 5, 6, 1)).astype(np.int8)
    expected = window.run_batch(x.reshape(2, 20, 6, 1)[:, -12:])
    np.testing.assert_array_equal(model.run_stream(x)[:, -1], expected)


def test_test_vectors_are_steps_of_one_stream():
    case = random_case(1)
    model = Model(to_bytes(case.stream, case.x[0]))
    assert case.x.shape[1] == model.verify() == model.verify()
    for step in case.x[0][::-1]:
        model.input[:] = step.tobytes()
        model.run()
    assert model.verify()  # whatever it has heard before


def test_a_reset_forgets():
    case = random_case(2)
    model = Model(to_bytes(case.stream))

    def outputs():
        found = []
        for x in case.x[0]:
            model.input[:] = x.tobytes()
            model.run()
            found.append(bytes(model.output))
        return found

    first = outputs()
    assert outputs() != first
    model.reset()
    assert outputs() == first
    assert first == [y.tobytes() for y in model.run_stream(case.x[:1])[0]]


def test_a_batch_without_streams_and_streams_without_steps():
    case = random_case(2)
    model = Model(to_bytes(case.stream))
    assert len(model.run_stream(case.x[:0])) == 0
    assert model.run_stream(case.x[:, :0]).shape[:2] == (2, 0)
    with pytest.raises(ValueError, match=r"^The model takes int8 inputs of shape \(N, "):
        model.run_stream(case.x.astype(np.int16))


def of(*layers, rows=12, values=6):
    net = nn.Sequential(*layers)
    rng = np.random.default_rng(0)
    fill(net, rng)
    return quantize(net, rng.normal(0, 1, (8, 1, rows, values)), name="n", labels=[])


REFUSED = [
    ([nn.Conv2d(1, 2, 3, padding=1)], 1, "Layer 0 Conv2d pads in time"),
    ([nn.MaxPool2d((3, 1), (3, 1), (1, 0))], 3, "Layer 0 MaxPool2d pads in time"),
    ([nn.Conv2d(1, 2, (4, 1), (2, 1))], 1, "moves 2 rows at a time"),
    ([nn.Conv2d(1, 2, (2, 1), (5, 1))], 5, "passes over rows"),
    ([nn.Conv2d(1, 2, (3, 1), (2, 1))], 2, "leaves the newest"),
    ([nn.Conv2d(1, 2, (7, 1)), nn.Flatten(), nn.Linear(72, 2)], 7, "takes 6 rows"),
    ([nn.Conv2d(1, 2, (7, 1)), nn.AdaptiveAvgPool2d(1)], 12, "takes 6 rows"),
    ([nn.Conv2d(1, 2, (3, 1))], 1, "puts out 10 rows of time"),
    ([nn.Conv2d(1, 2, 1)], 0, "A step of 0 rows"),
    ([nn.Conv2d(1, 2, 1)], 13, "A step of 13 rows"),
]


@pytest.mark.parametrize(("layers", "step", "said"), REFUSED, ids=[each[2] for each in REFUSED])
def test_what_takes_no_stream_is_refused(layers, step, said):
    with pytest.raises(ValueError, match=rf"^[^.]*{said}[^.]*\.$"):
        stream(of(*layers), step)


def test_signals_and_operations_without_rows_are_refused():
    net = nn.Sequential(nn.Conv1d(1, 2, 3))
    fill(net, np.random.default_rng(0))
    signal = quantize(net, np.zeros((2, 1, 9)), name="n", labels=[])
    with pytest.raises(ValueError, match="^A network of signals "):
        stream(signal, 1)
    image = of(nn.Conv2d(1, 2, 1))
    moved = [replace(o, node=replace(o.node, kind=MOVE)) for o in image.operations]
    with pytest.raises(ValueError, match="^Layer 0 Conv2d is a move, which takes no stream"):
        stream(replace(image, operations=moved), 1)
    unknown = [replace(o, node=replace(o.node, kind=99)) for o in image.operations]
    with pytest.raises(ValueError, match="^Layer 0 Conv2d is of the unknown kind 99: "):
        stream(replace(image, operations=unknown), 1)


def sound(hop: int, window: int, step: int, frames: int = 14) -> tuple[QuantizedNet, Any, Any]:
    """A network of features, the same of sound, and the features' front end."""
    rng = np.random.default_rng(hop)
    front = Front(8000, window, hop, 64, bands=10)
    clips = random_clips(rng, 4, (frames - 1) * hop + window)
    features = sound_features(clips, front, 5, frames, step)
    x = Features(features)
    net = of(
        nn.Conv2d(1, 4, (4, 3), (2, 1), (0, 1)), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2), rows=frames, values=5,
    )  # fmt: skip
    return net, with_sound(stream(net, step), tables_of(features), window, hop), x


def random_clips(rng: np.random.Generator, n: int, samples: int) -> np.ndarray:
    clips = rng.normal(0, 1, (n, samples)) * 10 ** rng.uniform(1, 4, (n, 1))
    return np.clip(clips, -32768, 32767).astype(np.int16)


@pytest.mark.parametrize(("hop", "window"), [(20, 40), (25, 60), (30, 30)])
def test_sound_goes_in_and_scores_come_out(hop, window):
    step = 2
    net, listening, features = sound(hop, window, step)
    model, of_window = Model(to_bytes(listening)), Model(to_bytes(net))
    assert model.input_shape == (step * hop,) and model.input_type == "int16"
    assert len(model.input) == 2 * step * hop
    x = random_clips(np.random.default_rng(1), 3, 20 * step * hop).reshape(3, 20, -1)
    found = model.run_stream(x)
    warm = 14 // step + (window > hop)  # steps until all windows of samples are full
    for steps in range(warm, 21):
        heard = x[:, :steps].reshape(3, -1)[:, -(13 * hop + window) :]
        expected = of_window.run_batch(features(heard)[..., None])
        np.testing.assert_array_equal(found[:, steps - 1], expected)
    # And in the specification, from silence on.
    reference = Reference(to_bytes(listening))
    np.testing.assert_array_equal(reference.run_batch(x[0, :3]), found[0, :3])


def test_hops_that_leave_gaps_between_windows_are_refused():
    with pytest.raises(ValueError, match="^Windows of 40 samples "):
        sound(50, 40, 2)
