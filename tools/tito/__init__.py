"""The command `tito`, and what it is made of."""

from tinytorch import short_names

short_names.install(__name__, {"deploy": "board.device"})
