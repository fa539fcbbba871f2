"""Models on the board: the shared reader with the kernels of this interpreter."""

from tinytorch.kernels.viper import KERNELS
from tinytorch_core import model


class Model(model.Model):
    kernels = KERNELS
