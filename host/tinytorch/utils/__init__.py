"""PyTorch's `torch.utils`."""

from tinytorch.utils import checkpoint as checkpoint
from tinytorch.utils import data as data
