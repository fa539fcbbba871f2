"""Files of weights that PyTorch reads and writes, layer by layer."""

import struct

import numpy as np
import pytest

import tinytorch
from tests.host.test_convert import LAYERS
from tests.oracles import oracle
from tinytorch import nn

torch = oracle("torch", "oracle")
st = oracle("safetensors.torch", "oracle")

WITH_STATE = [
    name for name, (make, _) in LAYERS.items() if any(True for _ in make(nn).state_dict())
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.mark.filterwarnings("ignore:dropout option adds dropout:UserWarning")
@pytest.mark.parametrize("name", WITH_STATE)
def test_files_of_each_layer_go_both_ways(path, name):
    make, _ = LAYERS[name]
    tinytorch.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = make(nn), make(torch.nn)
    for net in (ours, theirs):
        for buffer in net.buffers():
            buffer += 3  # also an integer
    tinytorch.save(ours.state_dict(), path)
    written = st.load_file(path)
    expected = theirs.state_dict()
    assert sorted(written) == sorted(expected)
    for key, t in ours.state_dict().items():
        assert written[key].dtype == expected[key].dtype
        assert written[key].shape == expected[key].shape
        np.testing.assert_array_equal(written[key].numpy(), t.data)
    make(torch.nn).load_state_dict(written)

    st.save_file(expected, path)
    ours.load_state_dict(tinytorch.load(path))
    for key, t in ours.state_dict().items():
        assert str(t.dtype) == str(expected[key].dtype).removeprefix("torch.")
        np.testing.assert_array_equal(t.data, expected[key].numpy())


def test_every_type_and_shape(path):
    tensors = {
        "float32": torch.randn(2, 3), "float64": torch.randn(3).double(),
        "int64": torch.tensor(2**40), "int32": torch.arange(3, dtype=torch.int32),
        "int8": torch.tensor([[-128, 127]], dtype=torch.int8),
        "uint8": torch.tensor([0, 255], dtype=torch.uint8), "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4), "a.b.c": torch.ones(1, 1, 1), "naïve Δ": torch.zeros(1),
    }  # fmt: skip
    st.save_file(tensors, path)
    ours = tinytorch.load(path)
    tinytorch.save(ours, path)
    again = st.load_file(path)
    assert set(ours) == set(again) == set(tensors)
    for name, t in tensors.items():
        assert again[name].dtype == t.dtype and ours[name].shape == tuple(t.shape)
        assert torch.equal(again[name], t)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(path, half):
    theirs = torch.nn.Linear(3, 2).to(half)
    st.save_file(theirs.state_dict(), path)
    state = tinytorch.load(path)
    assert {t.dtype for t in state.values()} == {np.dtype(np.float32)}
    ours = nn.Linear(3, 2)
    ours.load_state_dict(state)
    np.testing.assert_array_equal(ours.weight.data, theirs.weight.detach().float().numpy())


def test_types_that_numpy_lacks(path):
    st.save_file({"t": torch.ones(2).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(
        ValueError, match="net.safetensors holds numbers of a type that numpy lacks"
    ):
        tinytorch.load(path)


def damaged(content):
    (length,) = struct.unpack("<Q", content[:8])
    return {
        "cut in the numbers": content[:-3],
        "cut in the header": content[: length // 2],
        "no header": content[:4],
        "nothing": b"",
        "a header that is too long": struct.pack("<Q", 2**60) + content[8:],
        "no JSON": content[:8] + b"x" * length + content[8 + length :],
        "another format": b"PK\x03\x04" + bytes(100),
        "too much": content + b"more",
    }


def test_damaged_files_are_one_sentence(path):
    st.save_file({"weight": torch.randn(4, 4)}, path)
    for what, content in damaged(path.read_bytes()).items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match="net.safetensors is not a safetensors file") as error:
            tinytorch.load(path)
        assert "\n" not in str(error.value), what


def test_files_for_another_net_are_one_sentence(path):
    st.save_file(torch.nn.Linear(3, 2).state_dict(), path)
    state = tinytorch.load(path)
    with pytest.raises(ValueError, match=r"weight has shape \(2, 4\) here and \(2, 3\) in the"):
        nn.Linear(4, 2).load_state_dict(state)
    with pytest.raises(ValueError, match="missing 0.weight, 0.bias, unexpected bias, weight"):
        nn.Sequential(nn.Linear(3, 2)).load_state_dict(state)
