"""A session of listening: LISTEN, STEP, SAMPLES and STOP_LISTENING of tinytorch_core.link.

The agent imports this module with the first of these requests, so that only those who listen pay
for it.
"""

import gc
import json
import struct
import time

import micropython

from tinytorch_core import link
from tinytorch_core.detector import detector_of
from tinytorch_core.listener import Listener

_BLOCK = 1024  # maximum bytes of samples in one answer
_GARBAGE = 8192  # bytes allocated between two garbage collections


class Wire:
    """The source whose samples come in STEP's payloads."""

    lost = 0

    def __init__(self, rate, channels):
        self.rate, self.channels = rate, channels
        self.data = b""

    def readinto(self, buf):
        """Copy what the last STEP brought into buf; returns the bytes copied."""
        n = min(len(buf), len(self.data))
        buf[:n] = self.data[:n]
        self.data = self.data[n:]
        return n

    def close(self):
        """Nothing is to be closed."""


def _open(settings, rate, channels):
    """The source that LISTEN's settings name: its kind, and what its class takes.

    Raises ValueError where the board has none.
    """
    kind = settings.pop("kind")
    if kind == "wire":
        return Wire(rate, channels)
    if kind == "mpu6050":
        from tinytorch.sensors.motion import open_mpu6050

        return open_mpu6050(rate, channels, **settings)
    if kind == "i2s":
        from tinytorch.sensors.i2s import INMP441 as make
    elif kind == "adc":
        from tinytorch.sensors.adc import Microphone as make
    else:
        raise ValueError("The board knows no source '%s': use wire, i2s, adc or mpu6050." % kind)
    return make(rate, **settings)


@micropython.viper
def _peak(block: ptr8, samples: int) -> int:
    """The largest magnitude, 0 to 32768, of so many int16."""
    most = 0
    for i in range(samples):
        x = int(block[2 * i]) | int(block[2 * i + 1]) << 8
        if x > 32767:
            x = 65536 - x
        if x > most:
            most = x
    return most


def _us(start):
    return time.ticks_diff(time.ticks_us(), start)


class ListenSession:
    """An open source, and the listener that runs the loaded model on it.

    With "raw" in the request there is no listener: `raw` gives the samples themselves. Raises
    ValueError for a source that the board does not have or that does not suit the model.
    """

    def __init__(self, agent, request):
        settings, raw = request["source"], request.get("raw")
        features, detector = {}, None
        if not raw:
            model = agent.loaded()
            detector = detector_of(model)
            features = model.features
            kind = settings["kind"]
            if kind != "wire" and (kind == "mpu6050") != (features["kind"] == "motion"):
                raise ValueError(
                    "A model of %s does not listen to the source '%s': choose another."
                    % (features["kind"], kind)
                )
        rate = request.get("rate") or features.get("rate") or 0
        channels = request.get("channels") or features.get("channels") or 1
        self.listener = None
        self.steps = self.free = 0
        self.source = source = _open(settings, rate, channels)
        self.wire = isinstance(source, Wire)
        try:
            if detector:
                self.listener = Listener(model, source, detector)
                self.reply = bytearray(struct.calcsize(link.STEP_HEAD) + 2 * len(model.output))
            else:
                if self.wire:
                    raise ValueError("The laptop's own samples need no kit: name a microphone.")
                # A quarter of a second at most, so that a slow sensor answers soon, too.
                frame = 2 * source.channels
                size = min(_BLOCK, max(1, int(source.rate / 4)) * frame) // frame * frame
                self.reply = bytearray(4 + size)
                self.samples = memoryview(self.reply)[4:]
        except BaseException:
            source.close()
            raise

    def about(self):
        """The answer to LISTEN: a dict of rate (Hz), channels and step_bytes.

        With a listener also name, labels, kind and warm of its model.
        """
        about = {"rate": self.source.rate, "channels": self.source.channels}
        if self.listener:
            model = self.listener.model
            about["step_bytes"] = len(self.listener.block)
            about["name"], about["labels"] = model.name, model.labels
            about["kind"] = model.features["kind"]
            about["warm"] = self.listener.detector.warm
        else:
            about["step_bytes"] = len(self.samples)
        return about

    def step(self, payload):
        """The answer to STEP, see tinytorch_core.link; b"" where the wire owes more sound."""
        listener = self.listener
        if not listener:
            raise ValueError("The kit gives samples only: let it listen with a model.")
        if self.wire:
            at = struct.unpack_from("<I", payload)[0] if payload else 0
            end = at + max(0, len(payload) - 4)
            if not 0 < end <= len(listener.block):
                raise ValueError(
                    "A step takes %d bytes of sound and got %d." % (len(listener.block), end)
                )
            if at == 0:
                listener.fill = 0  # an earlier, incomplete step was abandoned
            if at != listener.fill:
                raise ValueError("A part of the step is missing: send it from its beginning.")
            self.source.data = payload[4:]
        start = time.ticks_us()
        full = listener.hear()
        waited = _us(start)
        if not full and self.wire:
            return b""
        us = peak = 0
        event = -1
        if full:
            peak = _peak(listener.block, len(listener.block) // 2)
            start = time.ticks_us()
            event = listener.answer()
            us = _us(start)
        # gc.mem_free() takes 6 ms on a Pico: every eighth step is enough.
        if not self.steps & 7:
            self.free = gc.mem_free()
        self.steps += 1
        reply, lost = self.reply, self.source.lost
        struct.pack_into(link.STEP_HEAD, reply, 0, waited, us, self.free, lost, event, peak)
        head = struct.calcsize(link.STEP_HEAD)
        if not full:
            return reply[:head]
        n = len(listener.detector.scores)
        reply[head : head + n] = listener.detector.scores
        reply[head + n :] = listener.model.output
        return reply

    def raw(self):
        """The answer to SAMPLES: samples lost so far (4 bytes), then int16 samples."""
        if self.listener:
            raise ValueError("The kit listens with a model: ask it for the samples alone.")
        n = self.source.readinto(self.samples)
        struct.pack_into("<I", self.reply, 0, self.source.lost)
        return self.reply if n == len(self.samples) else self.reply[: 4 + n]


def answer(agent, kind, payload):
    """The answer to LISTEN, STEP, SAMPLES or STOP_LISTENING: bytes, or an object for JSON.

    Raises ValueError with one sentence where it fails.
    """
    try:
        if kind == link.STEP:
            return _session(agent).step(payload)
        if kind == link.SAMPLES:
            return _session(agent).raw()
        agent.stop_listening()
        gc.collect()
        if kind == link.STOP_LISTENING:
            gc.threshold(-1)
            return None
        agent.session = session = ListenSession(agent, json.loads(payload))
        gc.collect()
        gc.threshold(_GARBAGE)
        return session.about()
    except OSError as error:
        reason = error.args[0] if error.args else 0
        if not isinstance(reason, str):
            reason = "The source failed with error %s: check its pins and its wires." % reason
    except TypeError as error:
        reason = "The source does not take these settings (%s)." % error
    except MemoryError:
        gc.collect()
        reason = (
            "Listening needs more memory than the %d bytes that the board has free." % gc.mem_free()
        )
    raise ValueError(reason)


def _session(agent):
    if not agent.session:
        raise ValueError("The kit does not listen: begin with LISTEN.")
    return agent.session
