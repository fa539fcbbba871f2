"""The board's kernels in the real firmware, on the emulated Pico's 32-bit core."""

import base64
import json

from tests.conftest import ROOT
from tests.device.test_kernels import network_case, wide_case, write
from tests.operations import KINDS_AND_TIERS, random_case
from tito.deploy import connect
from tito.repl import Repl


def upload(repl: Repl, path: str, data: bytes) -> None:
    repl.exec(f"import binascii\nf = open({path!r}, 'wb')")
    for at in range(0, len(data), 3000):
        piece = base64.b64encode(data[at : at + 3000])
        repl.exec(f"f.write(binascii.a2b_base64({piece!r}))")
    repl.exec("f.close()")


def test_kernels_equal_the_specification(pico_kit, tmp_path):
    cases = [random_case(kind, seed, tier) for kind, tier in KINDS_AND_TIERS for seed in range(4)]
    cases += [wide_case(0), network_case(0), network_case(1)]
    write(tmp_path / "cases", cases)
    with connect(pico_kit):
        pass  # this has put our files on its flash
    with Repl(pico_kit.port, pico_kit.patience) as repl:
        repl.enter()
        upload(repl, "/check_kernels.py", (ROOT / "tests/device/check_kernels.py").read_bytes())
        upload(repl, "/cases", (tmp_path / "cases").read_bytes())
        upload(repl, "/one.tt", cases[0][0])
        found = repl.exec(
            "import json, check_kernels\n"
            "print(json.dumps([check_kernels.agreeing('/cases'), "
            "check_kernels.allocated('/one.tt', 5)]))",
            timeout=60,
        )
    assert json.loads(found) == [[len(cases), len(cases)], [0, 0]]
