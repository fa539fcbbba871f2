"""Tensors in a safetensors file, what is not a tensor as JSON in its header."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from tinytorch.autograd import Tensor

_KEY = "tinytorch"  # the header's entry that holds our JSON


def save(
    tensors: Mapping[str, Tensor], path: "str | Path", metadata: "Mapping[str, Any] | None" = None
) -> None:
    """Write a state_dict; a file that was there before stays whole until the new one is.

    metadata: anything that fits into JSON.
    """
    arrays = {name: np.array(t.data, order="C") for name, t in tensors.items()}
    content = to_bytes(arrays, {_KEY: json.dumps(metadata or {})})
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


def load(path: "str | Path") -> dict[str, Tensor]:
    """The tensors of a file, as `load_state_dict` takes them. Raises ValueError if it is broken."""
    return load_with_metadata(path)[0]


def load_with_metadata(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata that `save` was given."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, "np") as file:
            metadata = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            return {name: Tensor(file.get_tensor(name)) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a safetensors file, or it is damaged ({error}).") from None
