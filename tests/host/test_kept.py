"""Ours against what PyTorch has said, where it is not there to be asked."""

import inspect
import re

import numpy as np
import pytest

import tinytorch
from tests.host.torch_cases import GROUPS, plain, read, same
from tests.oracles import oracle
from tinytorch import nn

torch = oracle("torch", "oracle")
pytestmark = [  # PyTorch's own
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in (
        "Using padding='same' with even", "reduction", "enable_nested_tensor",
        "The PyTorch API of nested tensors", "dropout option adds", "Support for mismatched",
        "Length of split", "Detected call of",
    )
]  # fmt: skip
EVERY = pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, cases in GROUPS.items() for name in cases]
)
KEPT = {group: read(group) for group in GROUPS}
OWN = {"SinusoidalPositionalEncoding", "LearnedPositionalEncoding"}  # PyTorch has none
CONTAINERS = {"Module", "ModuleList", "ModuleDict", "ParameterList"}  # in "modules: containers"


def test_an_answer_is_kept_for_every_case():
    for group, cases in GROUPS.items():
        assert list(KEPT[group]) == list(cases), "run python -m tests.host.make_torch_cases"


@EVERY
def test_ours_is_what_pytorch_said(group, name):
    kept = KEPT[group][name]
    same(plain(GROUPS[group][name](tinytorch, kept)), kept)


@EVERY
def test_pytorch_still_says_so(group, name):
    torch.manual_seed(0)
    same(plain(GROUPS[group][name](torch)), KEPT[group][name])


def test_every_layer_has_a_case():
    layers = {n for n, c in vars(nn).items() if inspect.isclass(c) and issubclass(c, nn.Module)}
    named = set(re.findall(r"\w+", " ".join(KEPT["layers"])))
    assert layers - named == OWN | CONTAINERS


def test_a_wrong_number_is_seen():
    kept = KEPT["layers"]["Linear"]
    answer = plain(GROUPS["layers"]["Linear"](tinytorch, kept))
    answer["y"]["numbers"][0] += 1e-6
    with pytest.raises(AssertionError):
        same(answer, kept)
    with pytest.raises(AssertionError):
        same(plain(np.float32([1.0])), plain(np.float64([1.0])))
