"""Timings: ratios to PyTorch, measured side by side in one run, on one thread."""

import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # before numpy and PyTorch start their threads
