"""Arguments that several verbs of the command line share."""

import argparse
from collections.abc import Callable
from pathlib import Path


def add_kit(
    parser: argparse.ArgumentParser,
    default: "str | None" = None,
    required: bool = False,
    more: str = "",
) -> None:
    """--kit and --firmware. more: what else --kit takes, as in "laptop, "."""
    parser.add_argument(
        "--kit", default=default, required=required, metavar="KIT",
        help=f"virtual, pico, {more}or a serial port (see `tito kits`)",
    )  # fmt: skip
    parser.add_argument(
        "--firmware", type=Path, metavar="IMAGE", help="MicroPython UF2 image for the pico kit"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """--data: files of recordings."""
    parser.add_argument(
        "--data", type=Path, nargs="+", metavar="FILE.npz", help="recordings in the npz layout"
    )


def at_least(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` on."""

    def number(word: str) -> int:
        if not word.isdecimal() or int(word) < least:
            raise argparse.ArgumentTypeError(f"{word} is not a whole number from {least} on")
        return int(word)

    return number
