"""Figures of speed and accuracy, measured on one thread."""

import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # before numpy and PyTorch start their threads
