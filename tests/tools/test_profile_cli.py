"""`tito profile` of a float network, as its users meet it."""

import pytest

from tests.tools.test_cli import Place

CONFIG = '[data]\nsource = "xor"\n[train]\nepochs = 1\n[output]\npicture = false\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("profile"))
    place.environment |= {"OPENBLAS_NUM_THREADS": "1"}
    (place.folder / "xor.toml").write_text(CONFIG)
    place.good("train", "xor.toml", "--out", "run")
    place.good("train", "--epochs", 1, "--out", "gesture.safetensors")
    return place


def test_a_network_by_a_configuration(place):
    figures, said = place.good("profile", "run/model.safetensors", "--batch", 4)
    assert (figures["batch"], figures["parameters"], figures["macs"]) == (4, 642, 2048)
    assert [row["kind"] for row in figures["layers"]] == ["Flatten", "Linear", "ReLU", "Linear", ""]
    assert "model.safetensors in training, 4 samples of 2" in said and "fwd ms" in said
    for column in ("macs", "activation_bytes", "forward_ms", "backward_ms"):
        parts = sum(row[column] for row in figures["layers"])
        assert parts == pytest.approx(figures[column])


def test_a_gesture_network_and_its_picture(place):
    figures, said = place.good("profile", "gesture.safetensors", "--picture", "net.png")
    assert figures["batch"] == 32 and figures["macs"] == 32 * 154_624
    assert "wrote      net.png" in said
    assert (place.folder / "net.png").read_bytes()[:4] == b"\x89PNG"


def test_bad_use(place):
    (place.folder / "noise.safetensors").write_bytes(b"noise" * 30)
    place.bad(2, "There is no file no.safetensors", "profile", "no.safetensors")
    place.bad(2, "A kit runs int8 models", "profile", "gesture.safetensors", "--kit", "virtual")
    place.bad(2, "are for a float network", "profile", "a.tt", "--batch", 4)
    place.bad(2, "0 is not a whole number", "profile", "gesture.safetensors", "--batch", 0)
    place.bad(1, "noise.safetensors is not a safetensors file", "profile", "noise.safetensors")
    place.bad(1, "is no network that was trained", "profile", "run/checkpoint.safetensors")
