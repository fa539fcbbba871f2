"""Motion features: from sensor samples to a network's int8 input, in integers on every machine.

Motion settings are a dict that travels in the model file:
    {"kind": "motion", "rate": 25.0, "channels": 3, "window": 128, "shift": [5, 5, 5]}
A sample x of channel c (int16; an accelerometer's milli-g, a gyroscope's 0.1 deg/s) becomes
clamp((x + half) >> s, -128, 127) with s = shift[c] and half = (1 << s) >> 1. The network reads
the result times SCALE; the window is laid out (window, channels), the oldest sample first.
"""

SCALE = 1 / 64
ZERO_POINT = 0


class Motion:
    """A ring buffer of the newest window, quantized as the network's input.

    features: a motion model's settings, as above. `push` takes one sample, `write` puts the window
    into a model's input; neither allocates.

    Attributes: `rate` (Hz), `channels`, `window` (samples), `shift` (bytes, one for each channel).

    Raises ValueError for settings of another kind.
    """

    def __init__(self, features):
        if not features or features.get("kind") != "motion":
            raise ValueError("The model was not made for motion samples: give it its own features.")
        self.rate = features["rate"]
        self.channels = features["channels"]
        self.window = features["window"]
        self.shift = bytes(features["shift"])
        if len(self.shift) != self.channels:
            raise ValueError("The features need one shift for each channel.")
        self._ring = bytearray(self.window * self.channels)
        self.reset()

    def reset(self):
        """Forget all samples."""
        self._at = 0
        self._seen = 0

    def push(self, sample):
        """Take one sample, an int16 value for each channel; True once a whole window has come."""
        at = self._at
        for c in range(self.channels):
            s = self.shift[c]
            q = (sample[c] + (1 << s >> 1)) >> s
            self._ring[at + c] = (127 if q > 127 else -128 if q < -128 else q) & 255
        at += self.channels
        self._at = at if at < len(self._ring) else 0
        if self._seen < self.window:
            self._seen += 1
        return self._seen == self.window

    def write(self, out):
        """Copy the window, (window, channels) int8, oldest sample first, into the buffer `out`."""
        ring = self._ring
        size = len(ring)
        j = self._at
        for i in range(size):
            out[i] = ring[j]
            j += 1
            if j == size:
                j = 0
