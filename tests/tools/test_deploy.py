"""Deploying to a real MicroPython: the model arrives whole, or the one before it stays."""

import signal
import struct
import subprocess
import sys
import zlib
from hashlib import sha256

import numpy as np
import pytest

from tests import sections
from tinytorch.modelfile import heap
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import attach_section, read
from tinytorch.quantize.ir import INPUT, Node, Operation, Quant, QuantizedNet
from tinytorch_core import link
from tinytorch_core.model import DENSE
from tito.board import payload
from tito.board.device import Device, connect
from tito.board.repl import Repl
from tito.board.stream import CHUNK
from tito.errors import TitoError
from tito.kits.open import Kit, open_kit


def dense(seed: int, inputs: int = 300, outputs: int = 120, name: str = "dense") -> bytes:
    """A model file of one random dense layer, about inputs * outputs bytes, with test vectors."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, outputs * inputs).astype(np.int8)
    table = np.tile(np.array([[0, 1 << 30, -10]], np.int32), (outputs, 1))
    node = Node("dense", DENSE, (INPUT,), 1, 1, inputs, 1, 1, outputs, 1, 1, 1, 1, 0, 0,
                weight=weight.reshape(outputs, inputs).astype(float))  # fmt: skip
    quant = Quant(0.5, 0)
    net = QuantizedNet(name, [Operation(node, 0, 0, -128, 127, table, weight)], (inputs,), quant,
                       (outputs,), quant, [str(i) for i in range(outputs)])  # fmt: skip
    return to_bytes(net, rng.integers(-128, 128, (3, inputs)).astype(np.int8))


def sealed(data: bytes) -> bytes:
    """A changed model file with both its checksums made right again."""
    body = bytearray(data[:-32])
    struct.pack_into("<I", body, 12, zlib.crc32(memoryview(body)[16:]))
    return bytes(body) + sha256(body).digest()


OLD, NEW = dense(1), dense(2)


@pytest.fixture
def kit(virtual_kit):
    return virtual_kit


@pytest.fixture
def device(kit):
    with connect(kit) as device:
        yield device


def outputs_equal(device: Device, data: bytes, n: int = 3) -> bool:
    model = Model(data)
    x = np.random.default_rng(9).integers(-128, 128, (n, *model.input_shape)).astype(np.int8)
    return all(
        device.run(sample.tobytes())[0] == y.tobytes()
        for sample, y in zip(x, model.run_batch(x), strict=True)
    )


def assert_active(device: Device, data: bytes) -> None:
    (there,) = device.info()["models"]
    assert there["sha256"] == sha256(data[:-32]).hexdigest()
    assert there["bytes"] == len(data)
    device.load(there["name"])
    assert outputs_equal(device, data)


def test_a_model_arrives_and_gives_the_laptops_bytes(device: Device):
    seen: list[tuple[int, int]] = []
    report = device.put_model(OLD, progress=lambda *a: seen.append(a))
    assert seen[0] == (0, len(OLD)) and seen[-1] == (len(OLD), len(OLD))
    assert report["vectors"] == 3
    assert report["us"] > 0
    assert len(OLD) - 3000 < report["kept"] <= report["peak"]
    assert outputs_equal(device, OLD)
    (us,) = device.profile()
    assert us > 0
    assert_active(device, OLD)
    info = device.info()
    assert info["word"] == 8
    assert info["board"] and info["free_ram"] > 50_000 and info["free_flash"] > 500_000


def test_a_model_that_is_there_is_not_sent_again(device: Device):
    device.put_model(OLD)
    report = device.put_model(OLD, progress=lambda *a: pytest.fail("it was sent again"))
    assert report["vectors"] == 3


def test_a_model_whose_bytes_went_bad_on_the_flash_is_sent_again(kit: Kit):
    with connect(kit) as device:
        device.put_model(OLD)
    with Repl(kit.port) as repl:
        repl.enter()
        repl.exec(
            "with open('/models/dense.a.tt', 'r+b') as f:\n f.seek(9000)\n f.write(b'went bad')"
        )
    with connect(kit) as device:
        with pytest.raises(TitoError, match="damaged"):
            device.load("dense")
        device.put_model(OLD)
        assert_active(device, OLD)


def test_machine_code_for_another_processor_is_left_out(device: Device):
    device.put_model(attach_section(OLD, sections.made()))
    assert_active(device, OLD)


def test_models_change_slots_and_go_by_their_names(device: Device):
    slots = []
    for data in (OLD, NEW, OLD):
        device.put_model(data)
        slots.append(device.info()["models"][0]["slot"])
        assert_active(device, data)
    assert slots == ["a", "b", "a"]
    device.put_model(NEW, name="other")
    assert sorted(m["name"] for m in device.info()["models"]) == ["dense", "other"]
    device.delete("dense")
    assert_active(device, NEW)
    with pytest.raises(TitoError, match="no model 'dense'"):
        device.load("dense")
    for name in ("", "a/b", "../x", "x" * 33):
        with pytest.raises(TitoError, match="cannot name"):
            device.put_model(OLD, name=name)


def test_an_input_longer_than_a_frame(device: Device):
    data = dense(3, inputs=2500, outputs=4)
    device.put_model(data)
    assert outputs_equal(device, data)


def test_an_input_of_the_wrong_length(device: Device):
    for call in (lambda: device.run(bytes(300)), device.profile):
        with pytest.raises(TitoError, match="No model is loaded"):
            call()
    device.put_model(OLD)
    for n in (0, 299):
        with pytest.raises(TitoError, match="takes more than the"):
            device.run(bytes(n))
    with pytest.raises(TitoError, match="takes 300 bytes"):
        device.run(bytes(301))
    assert outputs_equal(device, OLD)


@pytest.mark.parametrize("cut", [0, 3000, 17_000, 36_000, len(NEW) + 600])
def test_a_kit_that_dies_in_a_transfer_keeps_its_model_and_resumes(home, cut):
    with open_kit("virtual") as kit:
        with connect(kit) as device:
            device.put_model(OLD)
            kit.set(faults={"cut": cut})
            with pytest.raises(TitoError, match="went away|stopped answering"):
                device.put_model(NEW)
        kit.wait()
    seen: list[int] = []
    with open_kit("virtual") as kit, connect(kit) as device:
        assert_active(device, OLD)
        device.put_model(NEW, progress=lambda done, total: seen.append(done))
        assert_active(device, NEW)
    # All that was flushed: it is at most a window and a flush behind what was sent.
    assert seen[0] >= (cut - 5 * CHUNK) // 16384 * 16384


def test_a_host_that_is_killed_leaves_a_kit_that_the_next_one_can_use(kit: Kit, tmp_path):
    with connect(kit) as device:
        device.put_model(OLD)
    new = tmp_path / "new.tt"
    new.write_bytes(NEW)
    code = (
        "import os, pathlib, signal, sys\n"
        "from tito.board.device import connect\nfrom tito.kits import Kit\n"
        "die = lambda done, total: done > 20000 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "connect(Kit('board', sys.argv[1])).put_model(pathlib.Path(sys.argv[2]).read_bytes(), "
        "progress=die)"
    )
    run = subprocess.run([sys.executable, "-c", code, kit.port, str(new)], capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    with connect(kit) as device:
        assert_active(device, OLD)
        seen: list[int] = []
        device.put_model(NEW, progress=lambda done, total: seen.append(done))
        assert seen[0] > 16_000
        assert_active(device, NEW)


def test_ctrl_c_in_a_transfer_leaves_the_repl_usable(kit: Kit):
    def interrupt(done: int, total: int) -> None:
        if done > 10_000:
            raise KeyboardInterrupt

    with connect(kit) as device:
        device.put_model(OLD)
        with pytest.raises(KeyboardInterrupt):
            device.put_model(NEW, progress=interrupt)
    with Repl(kit.port) as repl:
        repl.enter(soft_reset=False)
        assert repl.exec("print(6 * 7)").strip() == b"42"
    with connect(kit) as device:
        assert_active(device, OLD)


def test_close_leaves_the_friendly_repl(kit: Kit):
    connect(kit).close()
    with Repl(kit.port) as repl:
        repl.write(b"print(6 * 7)\r")
        seen = b""
        while b"42" not in seen:
            seen += (more := repl.read(100, 2))
            assert more, seen


def test_a_damaged_file_is_refused_before_anything_is_sent(device: Device):
    device.put_model(OLD)
    flipped = bytearray(NEW)
    flipped[len(NEW) // 2] ^= 4
    for bad in (NEW[:-1], NEW[:20], b"", bytes(flipped), NEW + b"\0", b"no model at all"):
        with pytest.raises(TitoError):
            device.put_model(bad, name="dense", progress=lambda *a: pytest.fail("it was sent"))
    assert_active(device, OLD)


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda d: d[:-200], "damaged"),
        (lambda d: d[:5000] + bytes([d[5000] ^ 1]) + d[5001:], "damaged"),
        # The last byte before the SHA-256 is the last expected byte of the last test vector.
        (lambda d: sealed(d[:-33] + bytes([d[-33] ^ 1]) + d[-32:]), "Test vector 2"),
        (lambda d: attach_section(d, sections.made()), "architecture 4 and this board has"),
    ],
    ids=["cut", "flipped", "vector", "processor"],
)
def test_the_board_refuses_a_bad_model_by_itself(device: Device, damage, sentence):
    device.put_model(OLD)
    bad = damage(NEW)
    stream = device.stream
    stream.ask(link.PUT, 1, name="dense", size=len(bad), fresh=True)
    stream.send(bad)
    stream.ask(link.END, 1, crc=zlib.crc32(bad))
    with pytest.raises(TitoError, match=sentence):
        stream.ask(link.LOAD, 5, name="dense", new=True)
    with pytest.raises(TitoError, match="Load and verify"):
        stream.ask(link.ACTIVATE, 1, name="dense")
    assert_active(device, OLD)
    device.put_model(NEW)
    assert_active(device, NEW)


def test_a_model_larger_than_the_boards_memory(device: Device):
    device.put_model(OLD)
    large = dense(4, inputs=1400, outputs=220)
    with pytest.raises(TitoError, match="more memory than the [0-9]+ bytes"):
        device.put_model(large, name="dense")
    assert_active(device, OLD)


def test_a_full_flash_is_reported_and_the_model_stays(kit: Kit):
    with connect(kit) as device:
        device.put_model(OLD)
    with Repl(kit.port) as repl:
        repl.enter()
        repl.exec(
            "import os\nn = os.statvfs('/')[3] - 6  # too few blocks for a model\n"
            "with open('/big', 'wb') as f:\n for i in range(n): f.write(bytes(4096))",
            timeout=30,
        )
    with connect(kit) as device:
        free = device.info()["free_flash"]
        with pytest.raises(TitoError, match="flash has no room"):
            device.put_model(NEW)
        assert device.info()["free_flash"] == free
        assert_active(device, OLD)


def test_no_room_for_our_own_files(kit: Kit):
    with Repl(kit.port) as repl:
        repl.enter()
        repl.exec(
            "f = open('/big', 'wb')\nfor i in range(345): f.write(bytes(4096))\nf.close()",
            timeout=30,
        )
    with pytest.raises(TitoError, match="no room for our"):
        connect(kit)


def test_the_agent_leaves_a_dead_line(kit: Kit):
    connect(kit).close()
    with Repl(kit.port) as repl:
        repl.enter()
        repl.exec("import tinytorch.agent")
        repl.exec_start("tinytorch.agent.serve(200)")
        assert repl.exec_end(2) == bytes(link.frame(link.READY))


@pytest.mark.parametrize(
    "name, version", [("micropython", (1, 22, 2)), ("circuitpython", (9, 2, 0))]
)
def test_other_pythons_are_refused(kit: Kit, name, version):
    # boot.py puts another sys in front of the kit's own.
    boot = f"""import sys
class Implementation: name, version, _mpy = {name!r}, {version!r}, 0x1306
class Sys: implementation, platform = Implementation, 'rp2'
sys.modules['sys'] = Sys
"""
    with Repl(kit.port) as repl:
        repl.enter()
        repl.exec(f"f = open('boot.py', 'w'); f.write({boot!r}); f.close()")
    with pytest.raises(TitoError, match=f"has {name} {version[0]}.{version[1]}.*MicroPython 1.23"):
        connect(kit)


def test_our_files_are_refreshed_where_they_differ(kit: Kit):
    sent: list[int] = []
    connect(kit, lambda done, total: sent.append(total)).close()
    whole = sent[-1]
    connect(kit, lambda *a: pytest.fail("nothing has changed")).close()

    def edit(code: str) -> int:
        with Repl(kit.port) as repl:
            repl.enter()
            repl.exec(f"import json, os\nmark = json.load(open({payload.MARK!r}))\n{code}")
        sent.clear()
        connect(kit, lambda done, total: sent.append(total)).close()
        return sent[-1]

    # An older version of one file, and a file that is ours no more.
    write = f"with open({payload.MARK!r}, 'w') as f: json.dump(mark, f)"
    old = "mark['/lib/tinytorch/store.mpy'] = '00'; mark['/lib/old.mpy'] = '00'\n" + write
    assert 0 < edit(old) < whole / 4
    assert edit(f"with open({payload.MARK!r}, 'w') as f: f.write('no JSON')") == whole
    # Someone removed a file, or put something else in its place, behind our back.
    assert edit("os.remove('/lib/tinytorch_core/link.mpy')") == whole
    assert edit("with open('/lib/tinytorch/agent.mpy', 'w') as f: f.write('mine')") == whole


def test_payload():
    assert [name for name, path in payload.sources("armv6m").items() if not path.is_file()] == []
    assert payload.architecture(0x1306) == "armv6m"
    assert payload.architecture(0x2B06) == "xtensawin"
    for mpy, sentence in ((0x1206, "version 6.2"), (0x0306, "no machine code"), (5, "version 5.0")):
        with pytest.raises(TitoError, match=sentence):
            payload.build(mpy)
    pico = payload.build(0x1306)
    assert pico.keys() - payload.build(0x0B06).keys() == {"/lib/tinytorch/kernels/thumb_call.mpy"}
    assert pico == payload.build(0x1306) != payload.build(0x0B06)
    assert all(data[:2] == b"M\x06" for data in pico.values())


def test_the_emulated_pico(pico_kit: Kit):
    data = dense(5, inputs=200, outputs=12)
    with connect(pico_kit) as device:
        report = device.put_model(data)
        assert report["vectors"] == 3
        sent = device.fit(data)
        assert len(data) - 1000 < report["kept"] <= report["peak"]
        assert abs(heap.ram(Model(sent), 4) / report["peak"] - 1) < 0.1
        assert device.fit(sent) == sent and read(sent) is not None
        assert outputs_equal(device, data)
        assert device.info()["word"] == 4
    with Repl(pico_kit.port, pico_kit.timeout_scale) as repl:
        repl.enter()
        kept = repl.exec(
            "import gc\ngc.collect(); before = gc.mem_alloc()\n"
            "from tinytorch import agent, runtime\nobjects = agent._Agent(), agent.link.Reader()\n"
            "gc.collect(); print(gc.mem_alloc() - before)"
        )
        assert int(kept) < 30_000
