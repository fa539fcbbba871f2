"""The model file on the laptop: written, planned, read and run."""

# ruff: noqa: F401 - the names are for others.

from tinytorch.modelfile.arena import ArenaPlan, Buffer, align, place, plan
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.heap import ram
from tinytorch.modelfile.runtime import Model
