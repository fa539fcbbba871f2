"""From a trained network to integer operations."""

# ruff: noqa: F401 - the names are for others.

from tinytorch.quantize.calibrate import quantize, quantize_nodes
from tinytorch.quantize.ir import Node, Operation, Quant, QuantizedNet
from tinytorch.quantize.run_integers import run_integers
