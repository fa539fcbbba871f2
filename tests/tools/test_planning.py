"""tito plan: what it says of a model before anything is sent."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.networks import fill
from tinytorch import nn
from tinytorch.modelfile.export import to_bytes
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import QuantizedNet
from tito import cli


def net(tier: str) -> QuantizedNet:
    rng = np.random.default_rng(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 8, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    fill(layers, rng)
    x = rng.normal(0, 1, (16, 2, 10, 5))
    return quantize(layers, x, name="small", labels=["a", "b", "c"], tier=tier)


def planned(tmp_path, capsys, quantized: QuantizedNet, *words: str) -> dict:
    path = tmp_path / "model.tt"
    path.write_bytes(to_bytes(quantized))
    assert cli.main(["plan", str(path), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_lanes_stay_words_from_layer_to_layer(tmp_path, capsys):
    found = planned(tmp_path, capsys, net("lane"))
    assert [o["tier"] for o in found["operations"]] == ["lane"] * 3 + [None, "lane"]
    assert [o["lanes"] for o in found["operations"][:3]] == [2, 2, 2]
    ends = [o["input"] for o in found["operations"][1:]]
    assert [o["result"] for o in found["operations"][:-1]] == ends
    assert ends[:2] == ["words", "words"]
    assert found["operations"][0]["input"] == found["operations"][-1]["result"] == "bytes"
    assert found["notes"] == []
    assert sum(o["cycles"] for o in found["operations"]) == found["cycles"]
    assert found["ms"] == pytest.approx(found["cycles"] / 125e3, abs=1e-3)
    assert 0 < found["code_bytes"] <= 8192
    assert found["file_bytes"] == found["model_bytes"] + found["section_bytes"]
    assert found["ram"] > found["section_bytes"] + found["arena_bytes"]


def test_the_exact_tier_has_one_sum_a_word(tmp_path, capsys):
    found = planned(tmp_path, capsys, net("exact"))
    assert [o["tier"] for o in found["operations"]] == ["exact"] * 3 + [None, "exact"]
    assert {o["lanes"] for o in found["operations"][:3]} == {1}
    assert {o["result"] for o in found["operations"]} == {"bytes"}


def test_weights_that_break_the_bound_leave_the_lanes(tmp_path, capsys):
    good = net("lane")
    second = good.operations[1]
    # One channel's nine weights all at 127, times the range of what the layer before puts out.
    weight = second.weight.copy().reshape(9, 8)
    weight[:, 3] = 127
    operations = [*good.operations]
    operations[1] = replace(second, weight=weight.reshape(-1))
    before = good.operations[0]
    reach = 9 * 127 * (before.high - before.low)
    found = planned(tmp_path, capsys, replace(good, operations=operations))
    assert [o["tier"] for o in found["operations"]][:3] == ["lane", "exact", "lane"]
    assert found["operations"][1]["lanes"] == 1
    note = found["notes"][0]
    assert "Operation 1 (depthwise)" in note
    assert f"{reach:,}" in note
    assert f"{reach - 65535:,} more" in note


def test_groups_of_weights_keep_the_bound_where_the_whole_layer_does_not(tmp_path, capsys):
    good = net("lane")
    third = good.operations[2]
    weight = third.weight.copy()
    weight[8:16] = 127
    operations = [*good.operations]
    operations[2] = replace(third, weight=weight)
    found = planned(tmp_path, capsys, replace(good, operations=operations))
    groups = found["operations"][2]["groups"]
    assert found["operations"][2]["lanes"] == 1 or max(groups) * 127 * 127 <= 65535
    assert found["notes"] == []


@pytest.mark.parametrize("board", ["esp32", "virtual"])
def test_other_boards_run_everything_in_viper(tmp_path, capsys, board):
    found = planned(tmp_path, capsys, net("lane"), "--board", board)
    assert {o["kernel"] for o in found["operations"]} == {"viper"}
    assert found["cycles"] is found["ms"] is None
    assert found["code_bytes"] == found["section_bytes"] == 0
    assert board in found["notes"][0]


def test_bad_input_is_said(tmp_path, capsys):
    assert cli.main(["plan", str(tmp_path / "none.tt")]) == 2
    assert "There is no model file" in capsys.readouterr().err
    assert cli.main(["plan", str(tmp_path / "none.tt"), "--board", "z80"]) == 2
    assert "rp2040" in capsys.readouterr().err
