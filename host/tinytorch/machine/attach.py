"""From a model file to one that brings machine code along."""

from tinytorch.machine.backend import BACKENDS
from tinytorch.machine.pack import pack
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import attach_section


def attach(data: bytes, architecture: int) -> bytes:
    """The model file with kernels for this architecture (MicroPython's number), or as it is where
    there are none for it."""
    backend = BACKENDS.get(architecture)
    if backend is None:
        return data
    packed = pack(Model(data), backend)
    # A section takes RAM, also one that leaves everything to viper.
    return attach_section(data, packed.section) if any(c.shape for c in packed.choices) else data
