"""Timings: ratios to PyTorch, measured side by side in one run."""
