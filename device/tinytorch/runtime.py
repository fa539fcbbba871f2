"""Models on the board: the shared reader with the kernels of this interpreter."""

from tinytorch.kernels.viper import KERNELS
from tinytorch_core import model


class Model(model.Model):
    kernels = KERNELS
    _prepare = None  # (kernel, at) that machine code wants called once

    def __init__(self, path):
        super().__init__(path)
        if self._prepare:
            kernel, at = self._prepare
            kernel(self._arena, self._program, at)

    def _kernel(self, kind):
        return KERNELS.get(kind)  # MEL's is loaded where no machine code takes its place

    def _bind(self, f, size):
        if size:
            from tinytorch.machine import bind

            bind(self, f, size)
        for i, (kernel, at) in enumerate(self._steps):
            if not kernel:
                from tinytorch.kernels.sound import mel

                self._steps[i] = mel, at
