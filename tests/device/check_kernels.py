"""Run on any MicroPython: do this board's kernels give the bytes of the specification?

A file of cases holds, one after the other, CASE, a model file, its inputs and their outputs.
"""

import gc
import io
import struct

from tinytorch.runtime import Model

CASE = "<IHHH"  # bytes of the model file, samples, bytes of an input, bytes of an output


class Loaded(Model):
    """A model from the bytes of its file."""

    def _open(self):
        return io.BytesIO(self.path)


def agreeing(path):
    """(cases with the right bytes for every sample, all cases) of a file of cases."""
    good = cases = 0
    with open(path, "rb") as f:  # noqa: PTH123 (no pathlib on MicroPython)
        while True:
            head = f.read(struct.calcsize(CASE))
            if not head:
                return good, cases
            n, samples, input_bytes, output_bytes = struct.unpack(CASE, head)
            model = Loaded(f.read(n))
            inputs = [f.read(input_bytes) for _ in range(samples)]
            same = True
            for x in inputs:
                model.input[:] = x
                model.run()
                same = same and model.output == f.read(output_bytes)
            good += same
            cases += 1
            del model
            gc.collect()


def allocated(path, runs=100):
    """Bytes that so many runs of a model file allocate, and so many predictions."""
    model = Model(path)
    x = bytes(model.input)
    model.predict(x)
    gc.collect()
    gc.disable()
    start = gc.mem_alloc()
    for _ in range(runs):
        model.run()
    between = gc.mem_alloc()
    for _ in range(runs):
        model.predict(x)
    end = gc.mem_alloc()
    gc.enable()
    return between - start, end - between
