"""How slow a kit is, told over the terminal itself.

The emulated Pico is slower than a board, whatever path or link it is reached by. It says so in the
size of its terminal's window, (rows, columns) = (patience, MARK), which no serial client touches.
"""

import os
import struct
from pathlib import Path

MARK = 0x7474


def mark(terminal: int, patience: int) -> None:
    """Write `patience` into the pseudo-terminal with this file descriptor."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", patience, MARK, 0, 0))


def read_patience(port: str) -> float:
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
