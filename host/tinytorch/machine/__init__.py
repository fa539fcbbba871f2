"""Machine code for boards: from a model file to one whose section brings kernels along.

`attach` does it for an architecture. On the way, `choose` takes the cheapest kernels for all
operations together, and `pack` places tensors and writes the section. What a chip has to offer is
said in `backend`, in the terms of `kernel`; each chip's kernels are a package of their own.
"""
