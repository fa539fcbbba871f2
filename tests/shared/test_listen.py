"""The detector against the same arithmetic in floats, and a model that hears a source."""

import gc
import json
import random
import struct
import sys
from math import exp

from tinytorch_core.detector import Detector, detector_of
from tinytorch_core.listener import Listener

try:
    from test_model import Model, dense, parts, sealed
except ImportError:  # under pytest
    from tests.shared.test_model import Model, dense, parts, sealed

SCALE = 0.1
LABELS = ["yes", "no", "_unknown_"]
SETTINGS = {
    "decay": round(32768 * exp(-SCALE)),
    "smooth": 3,
    "threshold": 150,
    "refractory": 4,
    "ignore": ["_unknown_"],
}
YES, NO, UNKNOWN, NOTHING = bytes((100, 0, 0)), bytes((0, 90, 156)), bytes((0, 0, 99)), bytes(3)


def settings(**changes):
    found = dict(SETTINGS)
    found.update(changes)
    return found


def softmax(output):
    real = [(b ^ 128) * SCALE for b in output]
    powers = [exp(x - max(real)) for x in real]
    return [p / sum(powers) for p in powers]


def test_scores_are_smoothed_probabilities():
    random.seed(3)
    for n in (1, 2, 12):
        detector = Detector([str(i) for i in range(n)], settings(smooth=5))
        seen = [[0.0] * n for _ in range(5)]
        for _ in range(50):
            output = bytes(random.getrandbits(8) for _ in range(n))
            detector.update(output)
            seen = seen[1:] + [softmax(output)]
            for i in range(n):
                mean = 255 * sum(p[i] for p in seen) / 5
                assert mean - 2.5 < detector.scores[i] < mean + 0.5


def test_a_word_is_one_answer_after_smoothing():
    detector = Detector(LABELS, SETTINGS)
    assert [detector.update(YES) for _ in range(9)] == [-1, 0, -1, -1, -1, -1, 0, -1, -1]
    assert detector.scores[0] == 254 and detector.scores[1] == 0
    detector.reset()
    assert [detector.update(YES), detector.update(NO), detector.update(NO)] == [-1, -1, 1]
    detector.reset()
    assert list(detector.scores) == [0, 0, 0]
    assert [detector.update(YES) for _ in range(2)] == [-1, 0]


def test_what_is_ignored_too_soft_or_torn_is_no_answer():
    detector = Detector(LABELS, SETTINGS)
    for output in [UNKNOWN] * 8 + [NOTHING] * 8 + [YES, NO, UNKNOWN] * 8:
        assert detector.update(output) == -1
    sure = Detector(LABELS, settings(threshold=254, smooth=1))
    assert sure.update(bytes((127, 128, 128))) == 0
    assert sure.update(bytes((127, 126, 128))) == -1


def test_the_first_updates_after_a_reset_do_not_count():
    detector = Detector(LABELS, SETTINGS, 3)
    for _ in range(2):
        assert [detector.update(YES) for _ in range(6)] == [-1, -1, -1, -1, 0, -1]
        detector.reset()


def test_settings_out_of_range_are_refused():
    for change in (
        {"decay": 32769}, {"smooth": 0}, {"smooth": 257}, {"threshold": 256}, {"refractory": -1},
    ):  # fmt: skip
        assert "detector needs" in refusal(Detector, LABELS, settings(**change))
    assert "detector needs" in refusal(Detector, [], SETTINGS)


class Source:
    """The bytes of a recording, `most` a call."""

    channels = 1
    lost = 0

    def __init__(self, data, rate=8000, most=1 << 20):
        self.data, self.rate, self.most = data, rate, most
        self.at = 0

    def readinto(self, buf):
        part = self.data[self.at : self.at + min(len(buf), self.most)]
        buf[: len(part)] = part
        self.at += len(part)
        return len(part)


SOUND = {"kind": "sound", "rate": 8000, "frames": 1, "step": 1}
SOUND["detect"] = settings(smooth=1, threshold=137, refractory=0, ignore=[])
MOTION = {"kind": "motion", "rate": 9.0, "channels": 1, "window": 2, "shift": [0]}


def model(features, labels=("a", "b")):
    meta = {
        "name": "m", "labels": labels, "features": features,
        "input": {"shape": [2], "scale": 1.0, "zero_point": 0},
        "output": {"shape": [2], "scale": SCALE, "zero_point": 0},
    }  # fmt: skip
    return Model(sealed(*parts(dense(), json.dumps(meta).encode())))


def refusal(make, *args):
    try:
        make(*args)
    except ValueError as error:
        assert str(error).endswith(".")
        return str(error)
    raise AssertionError("accepted")


def test_a_model_hears_its_source_however_that_is_cut():
    random.seed(4)
    data = bytes(random.getrandbits(4) for _ in range(400))
    m = model(SOUND)
    expected = []
    for at in range(0, len(data), 2):
        best = m.predict(data[at : at + 2])
        chance = softmax(bytes(m.output))[best]
        assert abs(255 * chance - 137) > 2
        expected.append((bytes(m.output), best if 255 * chance > 137 else -1))
    assert {e[1] for e in expected} == {-1, 0, 1}
    for most in (1, 2):
        listener = Listener(m, Source(data, most=most), detector_of(m))
        found = []
        for _ in range(len(data) // most):
            if listener.hear():
                event = listener.answer()
                found.append((bytes(m.output), event))
        assert found == expected
        assert listener.step() == -1 and not listener.hear()


def test_a_step_is_what_its_halves_are():
    m = model(SOUND)
    x = bytes((20, 30, 200, 0)) * 8
    whole = Listener(m, Source(x), detector_of(m))
    found = [whole.step() for _ in range(16)]
    halves = Listener(m, Source(x), detector_of(m))
    assert found == [halves.answer() if halves.hear() else None for _ in range(16)]
    assert set(found) == {0, 1}


def test_motion_is_heard_by_its_newest_window():
    m = model(MOTION)
    samples = [3, -4, 5, 100, -200, 7]
    listener = Listener(m, Source(struct.pack("<6h", *samples), 9.0), detector_of(m))
    assert len(listener.block) == 4  # two samples are a quarter of a second
    for i in range(0, 6, 2):
        listener.step()
        heard = bytes(m.output)
        m.predict([max(-128, min(127, x)) for x in samples[i : i + 2]])
        assert heard == bytes(m.output)


def test_what_does_not_fit_is_refused():
    m = model(SOUND)
    assert "'m' does not listen" in refusal(detector_of, model(None))
    assert "2 outputs and 1 labels" in refusal(detector_of, model(SOUND, ["a"]))
    assert "at 8000 Hz and the source has 16000" in refusal(
        Listener, m, Source(b"", 16000), detector_of(m)
    )
    stereo = Source(b"")
    stereo.channels = 2
    assert "1 channels and the source has 2" in refusal(Listener, m, stereo, detector_of(m))


class Tone:
    """A source without an end that allocates nothing."""

    rate, channels, lost = 8000, 1, 0

    def readinto(self, buf):
        for i in range(len(buf)):
            buf[i] = i * 77 & 255
        return len(buf)


def test_a_step_allocates_nothing():
    if sys.implementation.name != "micropython":
        return  # CPython cannot tell.
    tone = Tone()
    for features in (SOUND, MOTION):
        m = model(features)
        m.kernels = {}
        m._steps = []  # the reference operations allocate; a board's are tested with it
        tone.rate = features["rate"]
        listener = Listener(m, tone, detector_of(m))
        listener.step()
        gc.collect()
        before = gc.mem_alloc()
        for _ in range(50):
            listener.step()
        assert gc.mem_alloc() == before
