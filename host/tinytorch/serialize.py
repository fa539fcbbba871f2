"""Tensors in a safetensors file, with all other values as JSON in its header."""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save as to_bytes

from tinytorch.autograd.tensor import Tensor
from tinytorch.ops.array import Array

# The header's entry that holds our JSON: the metadata, where each tensor belongs (`pack`), and a
# checksum of that and of all tensors, as safetensors itself would not notice a changed byte. (One
# entry: their order is random.)
_KEY = "tinytorch"
_TENSOR, _TUPLE, _DICT = "$tensor", "$tuple", "$dict"


def write(path: "str | Path", content: bytes) -> None:
    """Write a file atomically: an earlier one stays whole until the new one replaces it."""
    path = Path(path)
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:  # a full disk: make room again, and say which file it was
        new.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def save(content: Any, path: "str | Path", metadata: "Mapping[str, Any] | None" = None) -> None:
    """Write a state_dict, or dicts, lists and tuples of tensors, numbers and strings.

    An earlier file stays whole until the new one replaces it. metadata: anything that fits into
    JSON. Raises TypeError for what cannot be saved.
    """
    tensors: dict[str, Tensor] = {}
    notes = {"metadata": metadata or {}, "content": pack(content, tensors)}
    arrays = {name: np.array(t.data, order="C") for name, t in tensors.items()}
    entry = {"crc32": _checksum(arrays, notes), **notes}
    write(path, to_bytes(arrays, {_KEY: json.dumps(entry)}))


def load(path: "str | Path") -> Any:
    """Read what `save` wrote, or the tensors by name from another program's file.

    float16 and bfloat16 become float32. Raises ValueError for a damaged file, FileNotFoundError if
    there is none.
    """
    tensors, notes = _read(path)
    return unpack(notes["content"], tensors) if notes else tensors


def load_with_metadata(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, by name, and the metadata that `save` was given."""
    tensors, notes = _read(path)
    return tensors, notes.get("metadata", {})


def _read(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, "np") as file:
            entry = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            arrays = {n: file.get_tensor(n) for n, kind in types.items() if kind != "BF16"}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a safetensors file, or it is damaged ({error}).") from None
    except (TypeError, AttributeError) as error:  # float8 and its like
        raise ValueError(f"{path} holds numbers of a type that numpy lacks ({error}).") from None
    if "BF16" in types.values():
        arrays |= _bfloat16(Path(path).read_bytes())
    notes = {name: entry[name] for name in ("metadata", "content") if name in entry}
    if entry and entry.get("crc32") != _checksum(arrays, notes):
        raise ValueError(f"{path} is damaged: what it holds is not what was written.")
    half = np.dtype(np.float16)
    return {
        n: Tensor(a.astype(np.float32) if a.dtype == half else a) for n, a in arrays.items()
    }, notes


def _bfloat16(content: bytes) -> dict[str, Array]:
    """A file's tensors of that type, which is the upper half of float32."""
    return {
        name: (np.frombuffer(t["data"], "<u2").astype(np.uint32) << 16)
        .view(np.float32)
        .reshape(t["shape"])
        for name, t in deserialize(content)
        if t["dtype"] == "BF16"
    }


def _checksum(arrays: Mapping[str, Array], notes: Mapping[str, Any]) -> str:
    total = zlib.crc32(json.dumps(notes).encode())
    for name in sorted(arrays):
        total = zlib.crc32(name.encode(), total)
        total = zlib.crc32(arrays[name].tobytes(), total)
    return f"{total:08x}"


def pack(value: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """Nested dicts, lists and tuples as `metadata` can hold them; arrays go into `tensors`.

    name: what theirs begin with. `unpack` gives the value again, with keys and tuples as they were.
    """
    if isinstance(value, (Tensor, np.ndarray)):
        while name in tensors:
            name += "_"  # "a.b" and the b of "a"
        tensors[name] = Tensor(value)
        return {_TENSOR: name, "array": isinstance(value, np.ndarray)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        parts = {k: pack(v, tensors, f"{name}.{k}" if name else str(k)) for k, v in value.items()}
        return parts if all(isinstance(k, str) for k in value) else {_DICT: list(parts.items())}
    if isinstance(value, (list, tuple)):
        items = [pack(v, tensors, f"{name}.{i}") for i, v in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if not isinstance(value, (str, int, float, bool, type(None))):
        raise TypeError(
            f"save: {name or 'this'} is a {type(value).__name__}: give tensors, numbers and "
            "strings, and of modules and optimizers the state_dict()."
        )
    return value


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given, from its metadata and the tensors."""
    if isinstance(value, list):
        return [unpack(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        tensor = tensors[value[_TENSOR]]
        return tensor.data if value["array"] else tensor
    if _TUPLE in value:
        return tuple(unpack(v, tensors) for v in value[_TUPLE])
    if _DICT in value:  # JSON's keys are strings
        return {k: unpack(v, tensors) for k, v in value[_DICT]}
    return {k: unpack(v, tensors) for k, v in value.items()}
