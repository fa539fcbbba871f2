"""A kit that listens: over the wire, step by step, with the laptop's bytes and scores."""

import json
import struct
import subprocess
from math import exp

import numpy as np
import pytest

from tests.conftest import ROOT, micropython
from tests.tools.test_deploy import dense
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.ir import INPUT, Node, Operation, Quant, QuantizedNet
from tinytorch_core import link
from tinytorch_core.detector import Detector
from tinytorch_core.model import DENSE
from tito.board.device import Device, connect
from tito.errors import TitoError
from tito.kits.open import open_kit

LABELS = ["up", "down", "_silence_"]
RATE, SAMPLES = 8000, 640
SCALE = 0.05
DETECT = {
    "decay": round(32768 * exp(-SCALE)), "smooth": 2, "threshold": 140, "refractory": 3,
    "ignore": ["_silence_"],
}  # fmt: skip
FEATURES = {
    "kind": "sound", "rate": RATE, "hop": 160, "step": 4, "frames": 8, "detect": DETECT,
}  # fmt: skip


def hearing(samples: int = SAMPLES, features: "dict | None" = FEATURES) -> bytes:
    """A model that takes the bytes of a step of samples through one random dense layer."""
    rng = np.random.default_rng(6)
    inputs, outputs = 2 * samples, len(LABELS)
    weight = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    table = np.tile(np.array([[0, 1 << 30, -10]], np.int32), (outputs, 1))
    node = Node("dense", DENSE, (INPUT,), 1, 1, inputs, 1, 1, outputs, 1, 1, 1, 1, 0, 0,
                weight=weight.astype(float))  # fmt: skip
    operation = Operation(node, 0, 0, -128, 127, table, weight.reshape(-1))
    net = QuantizedNet("hearing", [operation], (inputs,), Quant(1.0, 0), (outputs,),
                       Quant(SCALE, 0), LABELS, features)  # fmt: skip
    return to_bytes(net, rng.integers(-128, 128, (1, inputs)).astype(np.int8))


def audio(steps: int, samples: int = SAMPLES) -> np.ndarray:
    """Steps of sound, int16 (steps, samples), each of which is heard three times."""
    rng = np.random.default_rng(7)
    found = rng.normal(0, 6000, (-(-steps // 3), samples)).clip(-32768, 32767).astype("<i2")
    return np.repeat(found, 3, 0)[:steps]


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """One virtual kit for all tests here; its agent starts anew for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYTORCH_HOME", str(tmp_path_factory.mktemp("home")))
        with open_kit("virtual") as kit:
            yield kit


@pytest.fixture
def device(kit):
    with connect(kit) as device:
        yield device


def test_steps_over_the_wire_give_the_laptops_bytes_and_scores(device: Device):
    data = hearing()
    model, detector = Model(data), Detector(LABELS, DETECT, 1)
    device.put_model(data)
    steps, events = audio(45), []
    for _ in range(2):
        about = device.listen({"kind": "wire"})
        assert about == {
            "rate": RATE, "channels": 1, "step_bytes": 2 * SAMPLES, "name": "hearing",
            "kind": "sound", "labels": LABELS, "warm": 1,
        }  # fmt: skip
        detector.reset()
        for x in steps:
            found = device.step(x.tobytes())
            expected = model.run_batch(x.view(np.int8)[None]).tobytes()
            assert (found.output, found.event) == (expected, detector.update(expected))
            assert found.scores == bytes(detector.scores)
            assert found.peak == np.abs(x.astype(int)).max()
            assert found.run_us > 0 and found.waited_us < 100_000 and found.lost == 0
            assert found.free > 50_000 and not found.stalled
            events.append(found.event)
        device.stop_listening()
    assert {-1, 0, 1} == set(events)


def test_listening_does_not_grow(device: Device):
    device.put_model(hearing())
    device.listen({"kind": "wire"})
    x = audio(1)[0].tobytes()
    device.step(x)
    free = [device.step(x).free for _ in range(150)]
    assert min(free[75:]) >= min(free[:75]) - 1000
    assert max(free) - min(free) < 20_000  # what waits to be collected


def test_a_step_that_was_given_up_is_forgotten(device: Device):
    data = hearing()
    device.put_model(data)
    device.listen({"kind": "wire"})
    x = audio(1)[0]
    expected = Model(data).run_batch(x.view(np.int8)[None]).tobytes()
    with pytest.raises(TitoError, match="takes more than the 700 bytes"):
        device.step(x.tobytes()[:700])
    assert device.step(x.tobytes()).output == expected
    with pytest.raises(TitoError, match="takes 1280 bytes of sound and got 1282"):
        device.step(x.tobytes() + b"xx")
    with pytest.raises(TitoError, match="is missing"):
        device.stream.request(link.STEP, struct.pack("<I", 500) + b"late")
    assert device.step(x.tobytes()).output == expected


def test_what_cannot_listen_says_so_in_a_sentence(device: Device):
    wire = {"kind": "wire"}
    with pytest.raises(TitoError, match="No model is loaded"):
        device.listen(wire)
    for call in (device.step, device.samples):
        with pytest.raises(TitoError, match="does not listen: begin with LISTEN"):
            call()
    device.put_model(dense(1))
    with pytest.raises(TitoError, match="'dense' does not listen"):
        device.listen(wire)
    device.put_model(hearing())
    for source, rate, says in (
        ({"kind": "adc"}, None, "needs a board with an RP2040"),
        ({"kind": "radio"}, None, "no source 'radio'"),
        (wire, 16000, "listens at 8000 Hz and the source has 16000"),
        ({"kind": "mpu6050"}, None, "of sound does not listen to the source 'mpu6050'"),
    ):
        with pytest.raises(TitoError, match=says):
            device.listen(source, rate=rate)
    with pytest.raises(TitoError, match="name a microphone"):
        device.listen(wire, rate=RATE, raw=True)
    with pytest.raises(TitoError, match="3 channels, or 6"):
        device.listen({"kind": "mpu6050"}, rate=25, channels=1, raw=True)
    with pytest.raises(TitoError, match="does not take these settings"):
        device.listen({"kind": "i2s", "sd": 18, "lr": 3}, rate=RATE, raw=True)
    device.listen(wire)
    with pytest.raises(TitoError, match="takes 1280 bytes of sound and got 0"):
        device.step()
    with pytest.raises(TitoError, match="listens with a model"):
        device.samples()
    device.load("hearing")  # it closes the source of the model before
    with pytest.raises(TitoError, match="begin with LISTEN"):
        device.step()


def on_micropython(code: str):
    path = ":".join(str(ROOT / p) for p in ("device", "shared", "tests/device"))
    run = subprocess.run(
        [micropython(), "-X", "heapsize=400k", "-c", f"import check_session as c, json; {code}"],
        capture_output=True, text=True, timeout=60, env={"MICROPYPATH": path},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr or run.stdout
    return json.loads(run.stdout)


def test_a_board_that_hears_a_sensor_allocates_nothing(tmp_path):
    (tmp_path / "m.tt").write_bytes(hearing())
    assert on_micropython(f"print(json.dumps(c.allocated({str(tmp_path / 'm.tt')!r})))") == 0


def test_a_source_that_stalls_is_told_and_the_step_goes_on(tmp_path):
    (tmp_path / "m.tt").write_bytes(hearing())
    data = audio(2).tobytes()
    found = on_micropython(f"print(json.dumps(c.stalled({str(tmp_path / 'm.tt')!r}, {data!r})))")
    model = Model(hearing())
    outputs = [model.run_batch(x.view(np.int8)[None])[0].tolist() for x in audio(2)]
    assert found == [None, None, outputs[0], None, None, outputs[1]]


def test_motion_is_read_at_a_steady_pace_and_what_is_missed_is_counted():
    got, lost, ms = on_micropython("print(json.dumps(c.paced()))")
    assert got == [[1, -1, 256], [2, -2, 512], [3, -3, 768], [4, -4, 1024]]
    assert lost >= 3 and abs(10 * (3 + lost) - ms) < 25
