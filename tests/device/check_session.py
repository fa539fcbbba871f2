"""Run on any MicroPython: the agent's session of listening, with simulated sources."""

import gc
import struct
import time

from tinytorch.runtime import Model
from tinytorch.sensors.motion import Paced
from tinytorch.session import ListenSession, Wire

from tinytorch_core import link
from tinytorch_core.detector import detector_of
from tinytorch_core.listener import Listener


class Tone:
    """A microphone whose samples are always the same."""

    rate, channels, lost = 8000, 1, 0

    def readinto(self, buf):
        for i in range(len(buf)):
            buf[i] = i * 77 & 255
        return len(buf)

    def close(self):
        pass


class Agent:
    """As much of the agent as a session needs."""

    def __init__(self, path):
        self.model = Model(path)

    def loaded(self):
        return self.model


def allocated(path, steps=50):
    """Bytes that so many steps of listening to a sensor allocate."""
    model = Model(path)
    listener = Listener(model, Tone(), detector_of(model))
    listener.step()
    gc.collect()
    gc.disable()
    start = gc.mem_alloc()
    for _ in range(steps):
        listener.step()
    end = gc.mem_alloc()
    gc.enable()
    return end - start


class Slow(Wire):
    """A sensor that gives 500 bytes, and then stalls."""

    def readinto(self, buf):
        return super().readinto(buf[:500])


def stalled(path, data):
    """The outputs of steps of a sensor that stalls, until it has given all; None where it did."""
    session = ListenSession(Agent(path), {"source": {"kind": "wire"}})
    source = Slow(8000, 1)
    source.data = data
    session.wire, session.source, session.listener.source = False, source, source
    found, head = [], struct.calcsize(link.STEP_HEAD)
    for _ in range(6):
        reply = session.step(b"")
        if len(reply) == head:
            assert struct.unpack(link.STEP_HEAD, reply)[4] == -1
            found.append(None)
        else:
            found.append([b - 256 if b > 127 else b for b in reply[-3:]])
    return found


class Counting:
    """A motion sensor whose samples tell how often it was asked."""

    n = 0

    def read(self, sample):
        self.n += 1
        sample[0], sample[1], sample[2] = self.n, -self.n, 256 * self.n


def paced():
    """Samples of a sensor at 100 Hz which nobody asks for 45 ms; those lost; ms between the first
    and the last."""
    source = Paced(Counting(), 100, 3)
    buf, start = bytearray(12), time.ticks_ms()
    assert source.readinto(buf) == 12
    got = [struct.unpack_from("<3h", buf, at) for at in (0, 6)]
    time.sleep_ms(45)
    assert source.readinto(buf) == 12
    got += [struct.unpack_from("<3h", buf, at) for at in (0, 6)]
    return got, source.lost, time.ticks_diff(time.ticks_ms(), start)
