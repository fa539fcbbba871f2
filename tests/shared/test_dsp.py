import gc
import sys
from array import array

from tinytorch_core.dsp import Motion

FEATURES = {"kind": "motion", "rate": 25.0, "channels": 3, "window": 4, "shift": [0, 1, 5]}


def signed(data):
    return [b - 256 if b > 127 else b for b in data]


def filled(samples, features=FEATURES):
    motion = Motion(features)
    for sample in samples:
        motion.push(sample)
    out = bytearray(motion.window * motion.channels)
    motion.write(memoryview(out))
    return signed(out)


def test_rounding_is_half_up():
    assert filled([(0, 0, 0)] * 3 + [(-3, -3, -16)])[-3:] == [-3, -1, 0]
    assert filled([(0, 0, 0)] * 3 + [(3, 3, 16)])[-3:] == [3, 2, 1]
    assert filled([(0, 0, 0)] * 3 + [(1, 1, -17)])[-3:] == [1, 1, -1]


def test_extremes_are_clamped():
    low, high = -32768, 32767
    assert filled([(low, low, low)] * 4) == [-128] * 12
    assert filled([(high, high, high)] * 4) == [127] * 12
    assert filled([(127, 253, 4079)] * 4) == [127] * 12
    assert filled([(-128, -257, -4112)] * 4) == [-128] * 12


def test_window_slides_with_the_oldest_sample_first():
    for count in range(4, 14):
        samples = [(t, 2 * t, 32 * t) for t in range(count)]
        expected = [v for t in range(count - 4, count) for v in (t, t, t)]
        assert filled(samples) == expected


def test_push_says_when_a_window_is_there():
    motion = Motion(FEATURES)
    for _ in range(2):
        assert [motion.push((1, 2, 3)) for _ in range(6)] == [False, False, False, True, True, True]
        motion.reset()


def test_nothing_is_allocated():
    if sys.implementation.name != "micropython":
        return  # CPython cannot tell.
    motion = Motion(FEATURES)
    sample = array("h", [100, -200, 300])
    out = bytearray(12)
    motion.push(sample)
    motion.write(out)
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(20):
        motion.push(sample)
        motion.write(out)
    assert gc.mem_alloc() == before


def test_other_settings_are_refused():
    short = dict(FEATURES)
    short["shift"] = [1]
    for wrong in (None, {}, {"kind": "mfcc"}, short):
        try:
            Motion(wrong)
        except ValueError as e:
            assert str(e).endswith(".")
        else:
            raise AssertionError("accepted")
