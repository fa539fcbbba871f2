"""tito bench kernels: cycles are exact, so they are held; a kernel that gets slower fails here."""

import json
import subprocess
import sys

import pytest

from tito import cli
from tito.verbs import bench

# Cycles that were measured, of which a network may take half a percent more.
HELD = {
    ("ds_cnn", "exact"): 12_386_735,
    ("ds_cnn", "lane"): 6_093_579,
    ("gesture", "exact"): 781_685,
    ("gesture", "lane"): 428_441,
}
# What we promise: cycles of a whole network.
PROMISED = {
    ("ds_cnn", "exact"): 14_000_000,
    ("ds_cnn", "lane"): 6_600_000,
    ("gesture", "exact"): 6 * 154_624,
    ("gesture", "lane"): 3.5 * 154_624,
}
# And a multiply-accumulate of the keyword network's layers, in lanes.
LAYERS = {"pointwise": 2.25, "depthwise": 3.3}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    here = tmp_path_factory.mktemp("bench")
    run = subprocess.run(
        [sys.executable, "-m", "tito.cli", "bench", "kernels", "--no-firmware", "--json"],
        capture_output=True, text=True, cwd=here, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (here / "kernels.png").read_bytes()[:4] == b"\x89PNG"
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(("network", "tier"), HELD)
def test_no_network_gets_slower(found, network, tier):
    run = found[network][tier]
    assert run["cycles"] == sum(layer["cycles"] for layer in run["layers"])
    assert run["cycles"] <= 1.005 * HELD[network, tier]
    assert run["cycles"] <= PROMISED[network, tier]
    assert run["predicted"] == pytest.approx(run["cycles"], rel=0.03)
    assert run["code_bytes"] <= 8192


def test_layers_keep_their_promises(found):
    layers = found["ds_cnn"]["lane"]["layers"]
    for operation, most in LAYERS.items():
        rates = [each["cycles_per_mac"] for each in layers if each["operation"] == operation]
        assert len(rates) == 4
        assert max(rates) <= most
    assert found["ds_cnn"]["lane"]["macs"] == 2_656_768


def test_the_lane_tier_is_faster_wherever_two_positions_share_a_word(found):
    for row in found["operations"]:
        if not row["operation"].startswith("dense"):
            assert row["lane"]["cycles"] < 0.75 * row["exact"]["cycles"], row


def test_where_no_firmware_runs_that_is_said(found):
    assert found["firmware"] == {"skipped": "not asked for"}


def test_what_is_wrong_is_said_at_once(tmp_path, capsys):
    for words in (["--firmware", "none.uf2"], ["--model", "none.tt"]):
        assert cli.main(["bench", "kernels", *words]) == 2
        said = capsys.readouterr()
        assert "none." in said.err
        assert not said.out


@pytest.mark.long
def test_an_inference_in_real_firmware(firmware, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_HOME", str(tmp_path))
    make, shape = bench.NETWORKS["ds_cnn"]
    data, x = bench.seeded(make, shape, "lane")
    run = bench.in_firmware(data, x, firmware)
    assert run["cycles"] <= PROMISED["ds_cnn", "lane"]
    assert run["python_share"] <= 0.03
    assert run["heap_peak"] <= 100_000
    assert run["vectors"] == 2  # they gave the laptop's bytes
