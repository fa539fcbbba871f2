"""The firmware image that the emulated Pico boots: MicroPython's official one for the Pico."""

import hashlib
import os
import struct
from pathlib import Path

import platformdirs

from tinytorch.cache import cache_folder, fetch
from tito.errors import TitoError, UsageError

NAME = "RPI_PICO-20241129-v1.24.1.uf2"
URL = f"https://micropython.org/resources/firmware/{NAME}"
SHA256 = "a41b7dbadfe4f399a10bd344002b365427ad033de993cf372c29c884b33a4cdf"

VARIABLE = "TINYTORCH_PICO_FIRMWARE"
UF2_MAGIC, RP2040_FAMILY = 0x0A324655, 0xE48BFF56


def find_firmware(given: Path | None = None, url: str = URL, download: bool = True) -> Path:
    """The image to boot: `given`, else $TINYTORCH_PICO_FIRMWARE, else the user's firmware cache.

    The cache is filled from `url` (checksum verified) where that can be reached and `download`.
    Raises UsageError for an image that is not one for the RP2040, TitoError if there is none.
    """
    if given is None and os.environ.get(VARIABLE):
        given = Path(os.environ[VARIABLE])
    if given is not None:
        _check(given)
        return given
    # TINYTORCH_HOME moves the cache; an image that is already in the user's own serves as well.
    own = cache_folder() / "firmware"
    for folder in (own, platformdirs.user_cache_path("tinytorch") / "firmware"):
        image = folder / NAME
        if image.exists() and hashlib.sha256(image.read_bytes()).hexdigest() == SHA256:
            return image
    if not download:
        raise TitoError(_missing("none is in the cache"))
    try:
        return fetch(url, SHA256, f"firmware/{NAME}")
    except OSError as error:
        raise TitoError(_missing(str(error))) from None


def _missing(why: str) -> str:
    return (
        f"There is no Pico firmware image ({why}): download {URL} elsewhere and give it with "
        f"--firmware FILE or {VARIABLE}."
    )


def _check(image: Path) -> None:
    """A UF2 image names its chip's family in the header of each 512-byte block."""
    if not image.is_file():
        raise UsageError(f"There is no firmware image {image}.")
    with image.open("rb") as file:
        head = file.read(512)
    if len(head) < 512 or struct.unpack_from("<I", head)[0] != UF2_MAGIC:
        raise UsageError(f"{image} is not a firmware image in the UF2 format.")
    if struct.unpack_from("<I", head, 28)[0] != RP2040_FAMILY:
        raise UsageError(f"{image} is a firmware image for another chip than the Pico's RP2040.")
