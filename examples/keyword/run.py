"""Keywords on the board: live from an INMP441 microphone, or replayed from a file.

After `tito deploy keyword.tt --kit PORT`:

    mpremote connect PORT run examples/keyword/run.py

Wires of the microphone: see tinytorch/sensors/i2s.py; on a Pico SCK to GP16, WS to GP17, SD to
GP18. Without one it replays /replay.bin: `mpremote connect PORT fs cp replay.bin :`.
"""

import time

import tinytorch


class Replay:
    """int16 samples from a file."""

    channels = 1
    lost = 0

    def __init__(self, path, rate):
        self.rate = rate
        self.file = open(path, "rb")

    def readinto(self, buf):
        return self.file.readinto(buf)


def microphone(rate):
    try:
        return tinytorch.INMP441(rate)
    except (ImportError, OSError, ValueError) as error:
        print("replaying /replay.bin:", error)
        return Replay("/replay.bin", rate)


def main():
    model = tinytorch.Model(tinytorch.path("keyword"))
    source = microphone(model.features["rate"])
    listener = tinytorch.Listener(model, source, tinytorch.detector_of(model))
    lost = 0
    while listener.hear():  # a step of sound, 80 ms
        start = time.ticks_us()
        label = listener.answer()
        us = time.ticks_diff(time.ticks_us(), start)
        if label >= 0:
            print(model.labels[label], listener.detector.scores[label], us, "us")
        if source.lost > lost:
            print("samples lost:", source.lost - lost)
            lost = source.lost


main()
