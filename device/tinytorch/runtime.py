"""Models on the board: the shared reader with the kernels of this interpreter."""

from tinytorch_core import model

from tinytorch.kernels.viper import KERNELS


class Model(model.Model):
    kernels = KERNELS
