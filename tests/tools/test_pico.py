"""Kernels in the real firmware, on the emulated Pico's core: viper, and machine code."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import sections
from tests.conftest import ROOT
from tests.device.test_kernels import network_case, wide_case, write
from tests.networks import fill
from tests.operations import KINDS_AND_TIERS, random_case
from tests.sweeps import examples, sweep
from tinytorch import nn
from tinytorch.modelfile import heap
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import attach_section
from tinytorch.quantize.calibrate import quantize
from tinytorch_core.detector import Detector
from tito.board.device import connect
from tito.board.repl import Repl
from tito.evaluation import kernels_of
from tito.kits.open import Kit, open_kit

pytestmark = pytest.mark.long  # each boots and fills a kit; test_deploy.py has the short one


@pytest.fixture(scope="module")
def pico(firmware, tmp_path_factory):
    """One emulated Pico for all tests here, with our files on its flash and those of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYTORCH_HOME", str(tmp_path_factory.mktemp("home")))
        with open_kit("pico", firmware) as kit:
            connect(kit).close()
            with Repl(kit.port, kit.timeout_scale) as repl:
                repl.enter()
                for name in ("check_kernels.py", "check_machine.py"):
                    upload(repl, "/" + name, (ROOT / "tests/device" / name).read_bytes())
            yield kit


def upload(repl: Repl, path: str, data: bytes) -> None:
    repl.exec(f"import binascii\nf = open({path!r}, 'wb')")
    for at in range(0, len(data), 3000):
        piece = base64.b64encode(data[at : at + 3000])
        repl.exec(f"f.write(binascii.a2b_base64({piece!r}))")
    repl.exec("f.close()")


def ask(kit: Kit, code: str, **files: bytes) -> Any:
    """What a list of expressions gives on the kit, with these files in its root."""
    with Repl(kit.port, kit.timeout_scale) as repl:
        repl.enter(soft_reset=False)  # to keep modules that are compiled already
        for name, data in files.items():
            upload(repl, "/" + name, data)
        lines = "import json, check_kernels, check_machine\n"
        return json.loads(repl.exec(f"{lines}print(json.dumps({code}))", timeout=60))


@sweep
def test_kernels_equal_the_specification(pico, tmp_path):
    seeds = range(examples(1, long=4))
    cases = [random_case(kind, seed, tier) for kind, tier in KINDS_AND_TIERS for seed in seeds]
    cases += [wide_case(0), *map(network_case, range(examples(1, long=2)))]
    write(tmp_path / "cases", cases)
    code = "[check_kernels.agreeing('/cases'), check_kernels.allocated('/one', 5)]"
    found = ask(pico, code, cases=(tmp_path / "cases").read_bytes(), one=cases[0][0])
    assert found == [[len(cases), len(cases)], [0, 0]]


def test_machine_code_runs_beside_viper_and_stays_where_it_is(pico):
    x = bytes(range(230, 256)) + bytes(sections.VALUES - 26)
    outputs, allocated, us = ask(
        pico,
        f"[check_machine.outputs('/copies', {x!r}), check_kernels.allocated('/copies', 50), "
        "check_machine.microseconds('/calls')]",
        copies=attach_section(sections.copies(), sections.made()),
        calls=attach_section(sections.copies(), sections.returning()),
    )
    assert outputs == [[(value + 2) % 256 for value in x]] * 2
    assert allocated == [0, 0]
    assert 2 < us < 20  # Python's part of one call; 1 us is 125 cycles


def test_bad_machine_code_is_refused_before_any_of_it_runs(pico, tmp_path):
    cases = [*sections.REFUSED, (sections.made(), "")]
    sections.write(tmp_path / "bad", cases)
    said = ask(pico, "check_machine.refusals('/bad')", bad=(tmp_path / "bad").read_bytes())
    assert len(said) == len(cases)
    for (_, sentence), found in zip(cases, said, strict=True):
        assert sentence in found and bool(found) == bool(sentence)


DETECT = {"decay": 31000, "smooth": 2, "threshold": 20, "refractory": 3, "ignore": []}
LISTENING = {"kind": "sound", "rate": 8000, "frames": 4, "step": 4, "detect": DETECT}
STEPS = """
import gc, tinytorch
from tinytorch_core.detector import detector_of
from tinytorch_core.listener import Listener
class Tone:
    rate, channels = 8000, 1
    def readinto(self, buf): return len(buf)
def allocated():
    model = tinytorch.Model(tinytorch.path("words"))
    listener = Listener(model, Tone(), detector_of(model))
    listener.step()
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(2): listener.step()
    return gc.mem_alloc() - before
print(allocated())
"""


def keyword_network() -> bytes:
    """A small one, in the exact tier; tests/tools/test_bench.py has MLPerf Tiny's in lanes."""
    rng = np.random.default_rng(16)
    net = nn.Sequential(
        nn.Conv2d(1, 16, (10, 4), stride=2, padding=(5, 1)), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 12),
    )  # fmt: skip
    fill(net, rng)
    x = rng.normal(0, 1, (8, 1, 49, 10))
    net.eval()
    made = quantize(net, x, name="words", labels=[str(i) for i in range(12)], features=LISTENING)
    return to_bytes(made, rng.integers(-128, 128, (1, *made.input_shape)).astype(np.int8))


def sample(model: Model) -> NDArray[np.int8]:
    return np.random.default_rng(5).integers(-128, 128, (1, *model.input_shape)).astype(np.int8)


def test_a_network_of_the_exact_tier_in_machine_code(pico):
    data = keyword_network()
    model = Model(data)
    x = sample(model)
    with connect(pico) as device:
        report = device.put_model(data)
        assert device.run(x.tobytes())[0] == model.run_batch(x).tobytes()
        sent, times = Model(device.fit(data)), device.profile()
        device.listen({"kind": "wire"})  # the network sees the bytes of the sound
        heard = device.step(x.tobytes())
        again = device.put_model(data, progress=lambda *a: pytest.fail("it was sent again"))
    assert sent.sha256 == report["sha256"] == again["sha256"] != model.sha256
    kernels = kernels_of(sent)
    assert kernels.count("machine") >= 4
    assert len(times) == len(kernels) - kernels.count("")
    assert abs(heap.ram(sent, 4) / report["peak"] - 1) < 0.05
    assert heard.output == model.run_batch(x).tobytes()
    detector = Detector(model.labels, DETECT)
    assert heard.event == detector.update(heard.output)
    assert heard.scores == bytes(detector.scores)
    assert heard.peak == np.abs(np.frombuffer(x.tobytes(), "<i2").astype(int)).max()
    with Repl(pico.port, pico.timeout_scale) as repl:
        repl.enter(soft_reset=False)
        assert repl.exec(STEPS, timeout=60).strip() == b"0"
