"""By how much host timeouts are stretched for a kit: a number that its terminal carries.

The emulated Pico is slower than a board, under whatever path or link it is opened. It says so in
the window size of its terminal, (rows, columns) = (scale, MARK), which no serial client touches.
"""

import os
import struct
from pathlib import Path

MARK = 0x7474


def write_timeout_scale(terminal: int, scale: int) -> None:
    """Write `scale` into the pseudo-terminal with this file descriptor."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", scale, MARK, 0, 0))


def read_timeout_scale(port: str) -> float:
    """The factor by which host timeouts are stretched for the kit behind `port`: 1 for a board."""
    # Only pseudo-terminals are opened for this: opening a board's port may reset the board.
    if not str(Path(port).resolve()).startswith(("/dev/pts/", "/dev/ttys")):
        return 1.0
    try:
        terminal = os.open(port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return 1.0  # whoever opens the port for use will say what is wrong with it
    try:
        size = os.get_terminal_size(terminal)
    except OSError:
        return 1.0
    finally:
        os.close(terminal)
    return float(size.lines) if size.columns == MARK else 1.0
