"""A model file's header by its fields' names, and how a file is closed.

The board's reader, tinytorch_core.model, needs neither.
"""

import binascii
import hashlib
import struct
from typing import NamedTuple

from tinytorch_core.model import CRC_FROM, HEADER, HEADER_BYTES, RECORD_BYTES, SINCE

LEAST_VERSION = 3  # that is written


class Header(NamedTuple):
    """The fields of tinytorch_core.model.HEADER, in its order."""

    magic: bytes
    version: int
    header_bytes: int
    file_bytes: int
    crc: int
    program_at: int
    program_bytes: int
    meta_at: int
    meta_bytes: int
    vectors_at: int
    vectors: int
    arena_bytes: int
    operations: int
    input_at: int
    input_bytes: int
    output_at: int
    output_bytes: int


def read(data: bytes) -> Header:
    """The header of a model file (its bytes)."""
    return Header(*struct.unpack_from(HEADER, data))


def seal(header: Header, body: bytes) -> bytes:
    """The model file of a header and of all that follows it, the SHA-256 left out.

    Its `version`, `file_bytes` and `crc` are set here. The version is the oldest that has all of
    the operations, so that a board asks to be updated for nothing else.
    """
    at = header.program_at - HEADER_BYTES
    records = range(at, at + header.operations * RECORD_BYTES, RECORD_BYTES)
    kinds = [struct.unpack_from("<i", body, record)[0] for record in records]
    header = header._replace(
        version=max([LEAST_VERSION, *(SINCE[kind] for kind in kinds)]),
        file_bytes=HEADER_BYTES + len(body) + 32,
    )
    crc = binascii.crc32(struct.pack(HEADER, *header)[CRC_FROM:] + body)
    data = struct.pack(HEADER, *header._replace(crc=crc)) + body
    return data + hashlib.sha256(data).digest()
