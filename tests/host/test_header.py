"""The header's fields by name, and the version that a file says it needs."""

import ast
import inspect
import textwrap

import pytest

from tests.operations import KINDS, random_case
from tests.sections import copies, made
from tinytorch.modelfile import header
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import attach_section
from tinytorch_core import model


def unpacked(function, format_name: str) -> list[str]:
    """The names to which a function unpacks what struct makes of this format."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            arguments = node.value.args
            target = node.targets[0]
            first = arguments[0] if arguments else None
            if isinstance(first, ast.Name) and first.id == format_name:
                assert isinstance(target, ast.Tuple)
                return [
                    ast.unparse(each).removeprefix("self.").removeprefix("_")
                    for each in target.elts
                ]
    raise AssertionError(f"{function} unpacks no {format_name}")


def test_the_board_s_reader_has_the_header_s_names_in_their_order():
    names = unpacked(model.Model._read, "HEADER")
    ours = list(header.Header._fields)
    others = {"": "magic", "count": "operations"}
    assert [others.get(name, name) for name in names] == ours


def test_check_has_the_record_s_names_in_their_order():
    names = unpacked(model.check, "RECORD")
    assert [name.removesuffix("_at") for name in names] == list(model.FIELDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_the_oldest_version_with_its_operations(kind):
    data = random_case(kind, 0)[0]
    expected = 4 if kind in ("mul", "logistic") else 3
    assert header.read(data).version == expected
    assert header.read(attach_section(data, made())).version == expected


def test_an_older_reader_asks_for_an_update(monkeypatch):
    monkeypatch.setattr(model, "VERSION", 3)
    monkeypatch.setattr(model, "SINCE", model.SINCE[: model.MUL])
    Model(random_case("add", 0)[0])
    with pytest.raises(ValueError, match="^The model has format 4 .* update TinyTorch here"):
        Model(random_case("mul", 0)[0])


def test_every_kind_came_with_a_version_that_is_read():
    assert len(model.SINCE) == model.LOGISTIC + 1
    assert max(model.SINCE) == model.VERSION


def test_what_a_file_says_of_itself():
    data = copies(2)
    read = header.read(data)
    assert (read.magic, read.file_bytes, read.vectors) == (model.MAGIC, len(data), 2)
    assert (read.operations, read.input_bytes, read.output_bytes) == (4, 40, 40)
    assert Model(data).meta_bytes == read.meta_bytes == read.vectors_at - read.meta_at
    assert header.seal(read, data[model.HEADER_BYTES : -32]) == data
