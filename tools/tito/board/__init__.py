"""A board that runs MicroPython, over a serial line."""
