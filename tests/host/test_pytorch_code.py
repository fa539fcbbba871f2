"""pytorch_snippets.py runs in both libraries, unchanged but for the import, with equal results."""

import ast
import functools
import re
from pathlib import Path

import pytest

import tinytorch
from tests.oracles import oracle

torch = oracle("torch", "oracle")

FILE = Path(__file__).with_name("pytorch_snippets.py")
SOURCE = FILE.read_text()
NAMES = [
    node.name
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
]


def module(source):
    names = {"__name__": "snippets"}
    exec(compile(source, FILE, "exec"), names)
    return names


def ours():
    source = re.sub(r"^( *)import torch$", r"\1import tinytorch as torch", SOURCE, flags=re.M)
    return re.sub(r"^( *)(import|from) torch\b", r"\1\2 tinytorch", source, flags=re.M)


@functools.cache
def of_library(library):
    """The functions, with tinytorch or with torch."""
    return module(ours() if library is tinytorch else SOURCE)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_in_both(name):
    torch.manual_seed(0)
    mine, theirs = (of_library(library)[name]() for library in (tinytorch, torch))
    same(mine, theirs)


def same(mine, theirs):
    """Tensors have the same shape, type and numbers."""
    if isinstance(theirs, torch.Tensor):
        assert str(mine.dtype) == str(theirs.dtype).removeprefix("torch.")
        assert tuple(mine.shape) == tuple(theirs.shape)
        same(mine.detach().tolist(), theirs.detach().tolist())
    elif isinstance(theirs, (list, tuple)):
        assert len(mine) == len(theirs)
        for pair in zip(mine, theirs, strict=True):
            same(*pair)
    elif isinstance(theirs, float):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=2e-5, nan_ok=True)
    else:
        assert type(mine) is type(theirs) and mine == theirs
