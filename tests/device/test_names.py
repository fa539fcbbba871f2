"""The numbers that viper's kernels have for names are those of the formats."""

import ast

import pytest

from tests.conftest import ROOT
from tinytorch_core import mel, model

NUMBERS = {name.upper(): at for at, name in enumerate(model.FIELDS)}
NUMBERS.update({f"T_{name.upper()}": at for at, name in enumerate(mel.HEAD)})


@pytest.mark.parametrize("name", ["viper", "sound"])
def test_constants_are_those_of_the_format(name):
    tree = ast.parse((ROOT / "device" / "tinytorch" / "kernels" / f"{name}.py").read_text())
    constants = {
        ast.unparse(node.targets[0]).removeprefix("_"): ast.literal_eval(node.value.args[0])
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    }
    assert constants
    for constant, value in constants.items():
        assert value == NUMBERS.get(constant, getattr(model, constant, None)), constant
    # Every place in a record or in the head of a block of tables has its name.
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "p":
            assert ast.unparse(node.slice).removeprefix("_") in NUMBERS, node.lineno


def test_every_kind_has_a_kernel():
    source = (ROOT / "device" / "tinytorch" / "kernels" / "viper.py").read_text()
    (kernels,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "KERNELS"
    )
    kinds = {getattr(model, ast.unparse(key).removeprefix("_")) for key in kernels.keys}
    assert kinds | {model.MEL} == set(range(1, len(model.SINCE)))
