"""The board's own MEL equals the specification to the byte, and allocates nothing."""

import json
import struct
import subprocess

from tests.conftest import ROOT, micropython
from tests.sounds import random_case

CASE = "<IIII"  # as in check_sound.py


def test_viper_equals_the_specification(tmp_path):
    cases = [random_case(seed) for seed in range(40)]
    with (tmp_path / "cases").open("wb") as f:
        for c in cases:
            f.write(struct.pack(CASE, len(c.program), len(c.arena), c.y, len(c.expected)))
            f.write(c.program + c.arena + c.expected)
    path = ":".join(str(ROOT / p) for p in ("device", "shared", "tests/device"))
    code = f"print(json.dumps(c.agreeing({str(tmp_path / 'cases')!r})))"
    run = subprocess.run(
        [micropython(), "-X", "heapsize=4m", "-c", f"import check_sound as c, json; {code}"],
        capture_output=True, text=True, timeout=120, env={"MICROPYPATH": path},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr or run.stdout
    assert json.loads(run.stdout) == [len(cases), len(cases), 0]
