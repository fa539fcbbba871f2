import numpy as np
import pytest
from safetensors.numpy import save_file

import tinytorch
from tinytorch import nn, optim


def test_what_is_saved_comes_back(tmp_path):
    net = nn.Linear(2, 1)
    optimizer = optim.Adam(net.parameters())
    optimizer.state[net.weight] = {"step": tinytorch.tensor(3)}
    saved = {
        "epoch": 3, "best": None, "losses": [1.5, float("inf")], "net": net.state_dict(),
        "optimizer": optimizer.state_dict(), "a": {"b": tinytorch.ones(2)},
        "a.b": np.arange(3), "loss": np.float32(0.5),
    }  # fmt: skip
    tinytorch.save(saved, tmp_path / "all")
    loaded = tinytorch.load(tmp_path / "all")
    assert list(loaded) == list(saved)
    assert (loaded["epoch"], loaded["best"], loaded["loss"]) == (3, None, 0.5)
    assert loaded["losses"] == saved["losses"]
    assert loaded["optimizer"]["param_groups"] == saved["optimizer"]["param_groups"]
    assert loaded["optimizer"]["state"][0]["step"].item() == 3
    assert list(loaded["net"]) == ["weight", "bias"]
    assert loaded["net"]["weight"].tolist() == net.weight.tolist()
    assert loaded["a"]["b"].tolist() == [1, 1] and loaded["a.b"].tolist() == [0, 1, 2]


def test_files_of_others_hold_tensors(tmp_path):
    save_file({"w": np.ones((2, 1), np.float32)}, tmp_path / "w")
    assert tinytorch.load(tmp_path / "w")["w"].tolist() == [[1], [1]]


def test_a_module_is_saved_by_its_state(tmp_path):
    with pytest.raises(TypeError, match=r"net is a Linear: give .* the state_dict\(\)"):
        tinytorch.save({"net": nn.Linear(1, 1)}, tmp_path / "net")
    with pytest.raises(TypeError, match="this is a set"):
        tinytorch.save({1, 2}, tmp_path / "set")
    assert not list(tmp_path.iterdir())
