"""The raw REPL client, on both kits and on ports that are no kits."""

import os
import pty
import threading
import time
import tty

import pytest
import serial

from tito.board.repl import DeviceError, Repl
from tito.errors import TitoError, UsageError


def test_exec_gives_what_was_printed(repl):
    assert repl.exec("x = 20 + 1\nprint(x * 2)").strip() == b"42"
    assert repl.exec("print(x)").strip() == b"21"


def test_an_exception_on_the_kit(repl):
    with pytest.raises(DeviceError, match=r"stopped with ZeroDivisionError: divide by zero\.") as e:
        repl.exec("def f():\n    1 / 0\nf()")
    assert "line 2, in f" in e.value.traceback
    with pytest.raises(DeviceError, match="SyntaxError"):
        repl.exec("def :")
    assert repl.exec("print('alive')").strip() == b"alive"


def test_ctrl_c_interrupts_a_running_loop(repl):
    repl.exec_start("print('running')\nwhile True: pass")
    assert repl.until(b"running", 5)
    repl.write(b"\x03")
    with pytest.raises(DeviceError, match="KeyboardInterrupt"):
        repl.exec_end()


def test_enter_interrupts_a_running_loop_and_frees_the_heap(repl):
    repl.exec_start("x = bytearray(100_000)\nprint('running')\nwhile True: pass")
    assert repl.until(b"running", 5)
    repl.enter()
    with pytest.raises(DeviceError, match="NameError"):
        repl.exec("x")


def test_enter_without_reset_keeps_variables(repl):
    repl.exec("x = 1")
    repl.enter(soft_reset=False)
    assert repl.exec("print(x)").strip() == b"1"


def test_soft_reset_in_the_friendly_repl(repl):
    repl.exec("x = 1")
    repl.write(b"\x02")
    assert repl.until(b">>> ", 5)
    repl.write(b"\x04")
    assert repl.until(b"soft reboot\r\n", 5)
    assert repl.until(b">>> ", 5)
    repl.write(b"x\r")
    assert repl.until(b"NameError", 5)


def test_main_runs_after_a_soft_reset_in_the_friendly_repl_only(repl):
    repl.exec("f = open('main.py', 'w'); f.write('print(6 * 7)'); f.close()")
    repl.soft_reset()
    assert b"x" not in repl.exec("1")
    repl.write(b"\x02")
    assert repl.until(b">>> ", 5)
    repl.write(b"\x04")
    assert b"42" in repl.until(b">>> ", 5)
    repl.enter()
    repl.exec("import os; os.remove('main.py')")


# Every byte value, 0x03 and 0x04 included, in both directions.
ECHO = """
import sys, micropython
micropython.kbd_intr(-1)
buffer = bytearray(256)
sys.stdout.buffer.write(b'ready')
for _ in range(4):
    view = memoryview(buffer)
    while view: view = view[sys.stdin.buffer.readinto(view):]
    sys.stdout.buffer.write(buffer)
micropython.kbd_intr(3)
"""


def test_binary_bytes_pass_while_ctrl_c_is_off(repl):
    repl.exec_start(ECHO)
    assert repl.until(b"ready", 5)
    for turn in range(4):
        data = bytes((turn * 3 + value) & 255 for value in range(256))
        repl.write(data)
        back = b""
        while len(back) < 256:
            back += repl.read(256 - len(back), 5)
        assert back == data
    assert repl.exec_end() == b""


STUCK = """
import sys, micropython
micropython.kbd_intr(-1)
one, frame = bytearray(1), bytearray(1028)
print('ready')
while one != b'!':
    sys.stdin.buffer.readinto(one)
    if one == b'<': sys.stdin.buffer.readinto(frame)
micropython.kbd_intr(3)
"""


def test_enter_frees_a_stuck_receiver(shared_kit):
    with Repl(shared_kit.port, shared_kit.timeout_scale) as repl:
        repl.enter()
        repl.exec_start(STUCK)
        assert repl.until(b"ready", 5)
        repl.write(b"<the first bytes of a frame")
    with Repl(shared_kit.port, shared_kit.timeout_scale, goodbye=b"!") as repl:
        repl.enter()
        assert repl.exec("print(1)").strip() == b"1"


def test_long_source_passes_in_raw_paste_mode(virtual_kit):
    with Repl(virtual_kit.port) as repl:
        repl.enter()
        # Many windows of source, little heap: compiled, comments weigh nothing.
        repl.exec("x = 0\n" + "".join(f"# Line {i}\nx += 1\n" for i in range(500)) + "#" * 20_000)
        assert repl.exec("print(x)").strip() == b"500"
        with pytest.raises(DeviceError, match="MemoryError"):
            repl.exec("x = 1\n" * 100_000)
        repl.enter()


def test_the_port_is_ours_alone(virtual_kit):
    with Repl(virtual_kit.port), pytest.raises(TitoError, match="in use by another program"):
        Repl(virtual_kit.port)
    with (
        serial.Serial(virtual_kit.port, exclusive=True),
        pytest.raises(TitoError, match="in use by another program"),
    ):
        Repl(virtual_kit.port)


def test_a_kit_that_goes_away(virtual_kit):
    with Repl(virtual_kit.port) as repl:
        repl.enter()
        repl.exec_start("import time; time.sleep(60)")
        timer = threading.Timer(0.2, virtual_kit.cut_power)
        timer.start()
        with pytest.raises(TitoError, match="went away"):
            repl.exec_end(timeout=30)
        timer.join()
        with pytest.raises(TitoError, match="went away"):
            repl.enter()


@pytest.mark.parametrize("port", ["/dev/ttyNONE", "COM99", "nonsense"])
def test_no_such_port(port):
    with pytest.raises(UsageError, match=f"There is no port {port}"):
        Repl(port)


def test_not_a_port(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="is not a serial port"):
        Repl(str(file))


def test_a_port_of_somebody_else(tmp_path):
    port = tmp_path / "port"
    port.touch(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may open every port, nobody may not
    try:
        with pytest.raises(TitoError, match="dialout"):
            Repl(str(port))
    finally:
        os.seteuid(user)


@pytest.fixture
def answering():
    """Start a port on which `answer(bytes)` answers; not MicroPython."""
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    threads = []

    def start(answer):
        def run():
            while (data := os.read(controller, 4096)) != b"end":
                if reply := answer(data):
                    os.write(controller, reply)

        threads.append(threading.Thread(target=run))
        threads[0].start()
        return os.ttyname(terminal)

    yield start
    time.sleep(0.05)
    os.write(terminal, b"end")
    threads[0].join(5)
    os.close(controller)
    os.close(terminal)


def test_a_board_that_does_not_answer(answering):
    start = time.monotonic()
    with Repl(answering(lambda data: b"")) as repl:
        with pytest.raises(TitoError, match="does not answer"):
            repl.enter()
        assert time.monotonic() - start < 5


def test_what_answers_is_not_micropython(answering):
    port = answering(lambda data: b"ERROR: unknown command\r\n")
    with Repl(port) as repl, pytest.raises(TitoError, match="not MicroPython.*unknown command"):
        repl.enter()


def test_a_port_that_echoes_is_not_micropython(answering):
    with Repl(answering(bytes)) as repl, pytest.raises(TitoError, match="not MicroPython"):
        repl.enter()
