"""Machine code for boards: assemblers, kernels, and what chooses them."""
