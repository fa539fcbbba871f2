"""Microphones on the emulated Pico: the real firmware's I2S, and its ADC by DMA."""

import base64
from ast import literal_eval

import numpy as np

from tests.device.test_sensors import filtered, sound
from tests.tools.test_pico import upload
from tito.board import payload
from tito.board.repl import Repl
from tito.kits.microphone import BIAS

READ = """
def read(source, size):  # the second time, which allocates nothing
    a, b = bytearray(size), bytearray(size)
    source.readinto(a)
    before = gc.mem_alloc()
    source.readinto(b)
    allocated = gc.mem_alloc() - before
    source.close()
    return binascii.b2a_base64(a + b), source.lost, allocated
"""


def test_a_pico_hears_by_i2s_and_by_its_adc(pico_kit):
    pico_kit.play(sound(), 8000)
    with Repl(pico_kit.port, pico_kit.timeout_scale) as repl:
        repl.enter()
        mpy = int(repl.exec("import sys; print(sys.implementation._mpy)"))
        repl.exec(
            "import os\nfor n in ('', '/tinytorch', '/tinytorch/sensors'): os.mkdir('/lib' + n)"
        )
        for path, data in payload.build(mpy).items():
            if path.endswith(("tinytorch/__init__.mpy", "pcm.mpy", "i2s.mpy", "adc.mpy")):
                upload(repl, path, data)
        repl.exec("import binascii, gc, sys; sys.path.append('/lib')" + READ)
        repl.exec("from tinytorch.sensors import adc, i2s")
        digital = repl.exec("print(*read(i2s.INMP441(8000), 512))", timeout=60)
        repl.exec("adc.MOVES = 256")  # so that the channel starts again several times
        analog = repl.exec("print(*read(adc.Microphone(8000, gain=1), 640))", timeout=60)
    # The port's first two frames pass before the microphone knows the rate.
    heard = np.concatenate([[0, 0], sound().astype(int)])
    agree(digital, filtered(heard[:512] << 2, 4))
    heard = BIAS - 2048 + (sound().astype(int) >> 4) << 10
    agree(analog, filtered(heard[:640], 1, heard[0] << 9))


def agree(said, samples):
    data, lost, allocated = said.decode().rsplit(maxsplit=2)
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(literal_eval(data)), "<i2"), samples
    )
    assert (lost, allocated) == ("0", "0")
