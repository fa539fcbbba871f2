import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch
from tinytorch.data.transforms import (
    Affine,
    ChannelMask,
    Compose,
    HorizontalFlip,
    Jitter,
    Mask,
    Normalize,
    RandomCrop,
    RotateAxes,
    Scale,
    TimeCrop,
    TimeFlip,
    TimeMask,
    TimeShift,
    TimeWarp,
    rotations,
)
from tinytorch.utils.data import DataLoader, TensorDataset, Transformed

SIGNALS = [
    Jitter(0.1), Jitter([0.1, 0.2, 0.3], p=0.5), Scale(2.0), RotateAxes(20.0), TimeWarp(),
    TimeShift(0.3), TimeFlip(), TimeCrop(3), TimeCrop(6, padding=1), TimeMask(2),
    ChannelMask(2, value=7.0, p=0.5),
]  # fmt: skip
IMAGES = [
    RandomCrop(4), RandomCrop((4, 6), padding=2), HorizontalFlip(), Mask(3), Affine(20.0, 0.1),
    Affine(p=0.5, degrees=90.0),
]  # fmt: skip
MOVERS = (TimeShift, TimeFlip, TimeCrop, TimeMask, ChannelMask, RandomCrop, HorizontalFlip, Mask)


def named(transform):
    return type(transform).__name__


def rng(seed=0):
    return np.random.default_rng(seed)


def sized(transform, shape):
    """The shape that a transform makes of a shape."""
    size = getattr(transform, "size", None)
    if isinstance(transform, TimeCrop):
        return (*shape[:-1], size)
    return (*shape[:-2], *size) if isinstance(transform, RandomCrop) else shape


@pytest.mark.parametrize("transform", SIGNALS + IMAGES, ids=named)
@settings(deadline=None, max_examples=12)
@given(
    count=st.integers(0, 4), sides=st.tuples(st.integers(4, 9), st.integers(6, 9)),
    dtype=st.sampled_from([np.float32, np.float64, np.int16]), seed=st.integers(0, 9),
)  # fmt: skip
def test_samples_and_batches(transform, count, sides, dtype, seed):
    sample = (3, *sides[2 - transform.ndim + 1 :])
    x = (100 * rng(seed).normal(size=(count, *sample))).astype(dtype)
    x.flags.writeable = False
    moves = isinstance(transform, MOVERS)
    expected = dtype if moves or dtype == np.float64 else np.float32
    out = transform(x, rng(seed))
    assert out.shape == sized(transform, x.shape) and out.dtype == expected
    np.testing.assert_array_equal(transform(x, rng(seed)), out)
    tensor = transform(tinytorch.tensor(x), rng(seed))
    assert isinstance(tensor, tinytorch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), out)
    one = transform(np.ones(sample, dtype), rng(seed))
    assert one.shape == sized(transform, sample) and one.dtype == expected


@pytest.mark.parametrize("transform", SIGNALS + IMAGES, ids=named)
def test_each_sample_is_drawn_on_its_own(transform):
    one = rng().normal(size=(3, 9, 9)[: transform.ndim]).astype(np.float32)
    out = transform(np.stack([one] * 40), rng())
    assert len(np.unique(out.reshape(40, -1), axis=0)) >= 2


@pytest.mark.parametrize("transform", SIGNALS + IMAGES, ids=named)
def test_chance_is_the_common_one_unless_given(transform):
    x = rng().normal(size=(20, 3, 9, 9)[: transform.ndim + 1]).astype(np.float32)
    tinytorch.manual_seed(3)
    first, second = transform(x), transform(x)
    tinytorch.manual_seed(3)
    np.testing.assert_array_equal(transform(x), first)
    assert not np.array_equal(first, second)
    state = tinytorch.get_rng_state()
    transform(x, rng())
    assert tinytorch.get_rng_state() == state


def test_p_is_how_many_are_changed():
    x = np.zeros((2000, 1, 4), np.float32)
    for p in (0.0, 0.3, 1.0):
        changed = Jitter(1.0, p=p)(x, rng()).any((1, 2)).mean()
        assert changed == pytest.approx(p, abs=0.0 if p in (0, 1) else 0.04)
    assert not TimeMask(2, p=0.0)(x, rng()).any()


def test_jitter():
    noise = Jitter([0.5, 2.0])(np.zeros((400, 2, 50), np.float32), rng())
    np.testing.assert_allclose(noise.std((0, 2)), [0.5, 2.0], rtol=0.03)
    np.testing.assert_allclose(noise.mean((0, 2)), 0, atol=0.05)


def test_scale_keeps_the_mean():
    x = 5 + rng().normal(size=(500, 2, 30))
    out = Scale(2.0)(x, rng())
    np.testing.assert_allclose(out.mean(2), x.mean(2))
    factor = out.std(2) / x.std(2)
    np.testing.assert_allclose(factor[:, 0], factor[:, 1])
    assert 0.5 <= factor.min() < 0.52 and 1.95 < factor.max() <= 2


def test_axes_turn_together():
    x = rng().normal(size=(50, 7, 30)).astype(np.float32)
    x[:, 3:6] = x[:, :3]  # such as an accelerometer and a gyroscope on one board
    out = RotateAxes(30.0)(x, rng())
    np.testing.assert_array_equal(out[:, :3], out[:, 3:6])
    np.testing.assert_array_equal(out[:, 6], x[:, 6])
    norms = [np.linalg.norm(a[:, :3], axis=1) for a in (x, out)]
    np.testing.assert_allclose(*norms, rtol=1e-4)
    assert np.abs(out - x)[:, :3].max() > 0.5
    np.testing.assert_array_equal(RotateAxes(0.0)(x, rng()), x)


def test_rotations():
    turned = rotations(rng(), 300, 40)
    eye = np.broadcast_to(np.eye(3), turned.shape)
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), eye, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(turned), 1, atol=1e-5)
    angle = np.rad2deg(np.arccos((np.trace(turned, axis1=1, axis2=2) - 1) / 2))
    assert np.sqrt(np.mean(angle**2)) == pytest.approx(40, rel=0.1)


def test_time_warps():
    t = np.arange(100.0)
    x = np.stack([t, np.sin(t / 9)])[None].repeat(300, 0)
    np.testing.assert_allclose(TimeWarp(speed=1.0, bend=0.0)(x, rng()), x)
    out = TimeWarp(speed=2.0, bend=0.0)(x, rng())
    np.testing.assert_allclose(out[:, 1], np.sin(out[:, 0] / 9), atol=0.002)  # one time for all
    speed = np.diff(out[:, 0])[:, 45:55].mean(1)  # in the middle, where no edge is near
    assert 0.5 <= speed.min() < 0.52 and 1.95 < speed.max() <= 2
    np.testing.assert_allclose(out[:, 0].mean(1), 49.5)
    bent = TimeWarp(speed=1.0, bend=0.1)(x, rng())
    np.testing.assert_allclose(bent[:, 1], np.sin(bent[:, 0] / 9), atol=0.002)
    moved = np.abs(bent[:, 0] - t)
    assert 9.5 < moved.max() <= 10
    assert bent[:, 0].min() >= 0 and bent[:, 0].max() <= 99
    assert TimeWarp()(np.ones((2, 1, 1)), rng()).shape == (2, 1, 1)


def test_time_shifts():
    x = np.arange(20)[None].repeat(500, 0)[:, None]
    out = TimeShift(0.25)(x, rng())[:, 0]
    steps = out[:, 10] - 10
    assert set(steps) == set(range(-5, 6))
    np.testing.assert_array_equal(out, np.clip(np.arange(20) + steps[:, None], 0, 19))


def test_flips():
    x = np.arange(400 * 6).reshape(400, 1, 6)
    out = TimeFlip()(x, rng())
    flipped = out[:, 0, 0] > out[:, 0, -1]
    assert 0.4 < flipped.mean() < 0.6
    np.testing.assert_array_equal(out[flipped], x[flipped, :, ::-1])
    np.testing.assert_array_equal(out[~flipped], x[~flipped])
    image = np.arange(6).reshape(1, 2, 3)
    assert HorizontalFlip(p=1.0)(image).tolist() == [[[2, 1, 0], [5, 4, 3]]]


def test_crops_are_pieces():
    x = np.arange(1, 11)[None, None].repeat(300, 0)
    out = TimeCrop(4)(x, rng())[:, 0]
    assert set(out[:, 0]) == set(range(1, 8))
    np.testing.assert_array_equal(out, out[:, :1] + np.arange(4))
    padded = TimeCrop(4, padding=2)(x, rng())[:, 0]
    assert [0, 0, 1, 2] in padded.tolist() and [9, 10, 0, 0] in padded.tolist()
    image = np.arange(1, 31).reshape(1, 1, 5, 6).repeat(300, 0)
    out = RandomCrop((2, 3))(image, rng())[:, 0]
    assert set(out[:, 0, 0]) == {1 + 6 * row + column for row in range(4) for column in range(4)}
    np.testing.assert_array_equal(out, out[:, :1, :1] + np.array([[0, 1, 2], [6, 7, 8]]))
    assert RandomCrop(5)(image[0], rng()).shape == (1, 5, 5)
    corner = RandomCrop(2, padding=1)(image, rng())[:, 0].tolist()
    assert [[0, 0], [0, 1]] in corner and [[30, 0], [0, 0]] in corner
    same = TimeCrop(10)(x, rng())
    np.testing.assert_array_equal(same, x)


@pytest.mark.parametrize(
    ("transform", "shape", "along"),
    [(TimeMask(3, value=5), (2, 8), 1), (ChannelMask(3, value=5), (8, 2), 0)],
)
def test_masks_hide_runs(transform, shape, along):
    hidden = transform(np.zeros((600, *shape)), rng()) == 5
    np.testing.assert_array_equal(hidden.any(2 - along, keepdims=True) & hidden, hidden)
    runs = hidden.all(2 - along)
    assert set(runs.sum(1)) == {1, 2, 3}
    np.testing.assert_array_equal((np.diff(runs, axis=1, prepend=0, append=0) != 0).sum(1), 2)
    assert runs.any(0).all()  # everywhere


def test_a_mask_hides_a_rectangle():
    hidden = Mask(3, value=1)(np.zeros((900, 2, 6, 5)), rng()) == 1
    rows, columns = hidden.any((1, 3)), hidden.any((1, 2))
    block = rows[:, None, :, None] & columns[:, None, None]
    np.testing.assert_array_equal(hidden, np.broadcast_to(block, hidden.shape))
    sides = set(zip(rows.sum(1).tolist(), columns.sum(1).tolist(), strict=True))
    assert sides == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3)}
    assert Mask(9)(np.ones((1, 2, 2)), rng()).shape == (1, 2, 2)


def test_affine():
    row, column = np.mgrid[:9, :9].astype(float)
    x = np.stack([row, column, 3 * row - column])[None].repeat(300, 0)
    np.testing.assert_allclose(Affine()(x, rng()), x)
    out = Affine(degrees=30.0)(x, rng())
    np.testing.assert_allclose(out[:, 2], 3 * out[:, 0] - out[:, 1], atol=1e-9)
    middle = out[:, :2, 2:7, 2:7] - 4  # turned, nothing there comes from beyond the edges
    around = x[:, :2, 2:7, 2:7] - 4
    np.testing.assert_allclose(np.hypot(*middle[0]), np.hypot(*around[0]), atol=1e-9)
    angle = np.rad2deg(np.arctan2(middle[:, 0, 2, 4], middle[:, 1, 2, 4]))
    assert -30 <= angle.min() < -28 and 28 < angle.max() <= 30
    moved = Affine(shift=0.25)(x, rng())[:, :, 4, 4] - x[:, :, 4, 4]
    assert np.abs(moved[:, :2]).max(0) == pytest.approx([2.25, 2.25], abs=0.1)
    assert Affine(45.0)(np.ones((1, 1, 1)), rng()).tolist() == [[[1.0]]]


def test_normalize():
    x = (rng().normal(size=(200, 3, 10)) * [[1], [5], [0]] + [[0], [7], [2]]).astype(np.float32)
    out = Normalize.fit(tinytorch.tensor(x))(x)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean((0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 2)), [1, 1, 0], atol=1e-5)
    np.testing.assert_array_equal(Normalize.fit(x)(x[4]), out[4])
    table = Normalize.fit(x[:, :, 0])(tinytorch.tensor(x[:, :, 0])).numpy()
    np.testing.assert_allclose(table.mean(0), 0, atol=1e-5)
    assert Normalize(1, 2)(np.array([3, 5])).tolist() == [1, 2]
    assert Normalize.fit(np.ones((4, 3, 2, 2)) * 5)(np.ones((3, 2, 2)) * 5).shape == (3, 2, 2)


def test_compose_hands_the_generator_on():
    both = Compose([Jitter(1.0), lambda x: x * 2, TimeFlip()])
    x = np.zeros((8, 2, 5), np.float32)
    out = both(x, rng(1))
    np.testing.assert_array_equal(both(x, rng(1)), out)
    chance = rng(1)
    np.testing.assert_array_equal(TimeFlip()(Jitter(1.0)(x, chance) * 2, chance), out)
    assert Compose([])(x) is x


def test_in_a_loader_each_batch_has_its_own_chance():
    data = TensorDataset(np.zeros((40, 3, 16), np.float32), np.arange(40))
    varied = Transformed(data, Compose([Jitter(1.0), RotateAxes(20.0), TimeMask(4, p=0.5)]))
    runs = []
    for workers in (0, 2):
        tinytorch.manual_seed(1)
        runs.append([x.numpy() for x, _ in DataLoader(varied, 8, True, num_workers=workers)])
    np.testing.assert_array_equal(*map(np.concatenate, runs))
    assert not np.array_equal(runs[0][0], runs[0][1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Jitter(1.0)(np.zeros(5)), r"shape \(5,\) is neither a signal \(C, T\) nor"),
        (
            lambda: Mask(1)(np.zeros((2, 2))),
            r"nor a batch of them, \(N, C, H, W\)",
        ),
        (lambda: Jitter(-1.0), "Jitter: std=-1.0: give a number from 0"),
        (lambda: Jitter(1.0, p=1.5), "p=1.5: give a number from 0 to 1"),
        (lambda: Scale(0.5), "most=0.5: give a number from 1"),
        (lambda: Scale(float("nan")), "most=nan"),
        (lambda: TimeWarp(speed=0.0), "speed=0.0"),
        (lambda: TimeMask(0), "size=0: give a number from 1"),
        (lambda: TimeCrop(9)(np.zeros((1, 5))), r"TimeCrop: size \(9,\) does not fit into \(5,\)"),
        (lambda: RandomCrop(6)(np.zeros((1, 5, 9))), r"size \(6, 6\) does not fit into \(5, 9\)"),
        (lambda: RotateAxes(5.0)(np.zeros((2, 9))), "a signal of 2 channels has no three axes"),
        (lambda: Normalize(0, [1, 0]), "std must be positive"),
        (lambda: Normalize.fit(np.zeros((0, 3))), r"shape \(0, 3\)"),
        (lambda: Normalize.fit(np.array([[1, np.nan]])), "without NaN"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
