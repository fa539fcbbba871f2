"""Run on any MicroPython: what becomes of models with machine code."""

import gc
import struct
import time

from check_kernels import Loaded
from tinytorch.runtime import Model


def refusals(path):
    """What binding each model says, '' where it is taken, of a file of (length, model file)."""
    said = []
    with open(path, "rb") as f:  # noqa: PTH123 (no pathlib on MicroPython)
        while True:
            head = f.read(4)
            if not head:
                return said
            data = f.read(struct.unpack("<I", head)[0])
            gc.collect()
            try:
                Loaded(data)
                said.append("")
            except ValueError as error:
                said.append(str(error))


def outputs(path, x):
    """The output bytes for x, at once, and when memory that is free has been used again."""
    model = Model(path)
    found = []
    for _ in range(2):
        model.input[:] = x
        model.run()
        found.append(list(model.output))
        gc.collect()
        rubbish = [b"\xff" * 100 for _ in range(300)]
        del rubbish
        gc.collect()
    return found


def microseconds(path):
    """What one step of a run takes, on average."""
    model = Model(path)
    model._steps *= 100
    start = time.ticks_us()
    model.run()
    return time.ticks_diff(time.ticks_us(), start) / len(model._steps)
