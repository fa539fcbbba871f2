"""PyTorch's `torch.nn`: one file a family of layers, all their names here."""

from tinytorch.nn import functional as functional
from tinytorch.nn import utils as utils
from tinytorch.nn.layers import (
    AdaptiveAvgPool1d as AdaptiveAvgPool1d,
)
from tinytorch.nn.layers import (
    AdaptiveAvgPool2d as AdaptiveAvgPool2d,
)
from tinytorch.nn.layers import (
    AvgPool1d as AvgPool1d,
)
from tinytorch.nn.layers import (
    AvgPool2d as AvgPool2d,
)
from tinytorch.nn.layers import (
    BatchNorm1d as BatchNorm1d,
)
from tinytorch.nn.layers import (
    BatchNorm2d as BatchNorm2d,
)
from tinytorch.nn.layers import (
    Conv1d as Conv1d,
)
from tinytorch.nn.layers import (
    Conv2d as Conv2d,
)
from tinytorch.nn.layers import (
    Dropout as Dropout,
)
from tinytorch.nn.layers import (
    Flatten as Flatten,
)
from tinytorch.nn.layers import (
    Linear as Linear,
)
from tinytorch.nn.layers import (
    MaxPool1d as MaxPool1d,
)
from tinytorch.nn.layers import (
    MaxPool2d as MaxPool2d,
)
from tinytorch.nn.layers import (
    ReLU as ReLU,
)
from tinytorch.nn.layers import (
    Sequential as Sequential,
)
from tinytorch.nn.losses import (
    CrossEntropyLoss as CrossEntropyLoss,
)
from tinytorch.nn.losses import (
    MSELoss as MSELoss,
)
from tinytorch.nn.module import (
    Module as Module,
)
from tinytorch.nn.module import (
    Parameter as Parameter,
)
