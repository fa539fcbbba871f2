"""Machine code for boards: assemblers, kernels, the section of a model file that carries them."""
