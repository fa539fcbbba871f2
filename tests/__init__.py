"""One thread for each process: pytest runs one on every core, and figures are those of one core."""

import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # before numpy and PyTorch start their threads
