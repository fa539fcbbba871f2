"""Output files: checked before the work begins, written whole or not at all."""

import argparse
import os
from pathlib import Path

from tito.errors import TitoError, UsageError


def output_file(word: str) -> Path:
    """The type of an argument that names a file to write."""
    path = Path(word)
    folder = path.resolve().parent
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {folder}")
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"{path} is not a file that can be replaced")
    if not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"you have no permission to write in the folder {folder}")
    return path


def late_output_file(word: str, verb: str) -> Path:
    """As `output_file`, for an --out whose default is known only after the command line is read.

    Raises UsageError.
    """
    try:
        return output_file(word)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"argument --out: {error} (see `tito {verb} --help`).") from None


def write(path: Path, data: bytes, what: str = "wrote") -> None:
    """Write a file whole or not at all, and print its path after `what`. Raises TitoError."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise TitoError(f"{path} cannot be written: {error.strerror}.") from error
    print(f"{what:10} {path}")
