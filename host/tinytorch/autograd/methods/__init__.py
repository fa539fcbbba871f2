"""What Tensors can do, one file a family of methods.

Each class here is a mixin of Tensor: it calls operations of tinytorch.ops on `self`, and knows of
the methods of those it is built on.
"""
