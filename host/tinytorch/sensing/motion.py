"""Motion features on the laptop: their settings, from recordings, and whole batches of windows.

The arithmetic is that of tinytorch_core.dsp, which the board runs, and gives the same bytes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch_core.dsp import SCALE


def motion_features(windows: NDArray[np.int16], rate: float) -> dict[str, Any]:
    """Settings for windows (N, window, C): the finest shift for each channel that clips at most
    one sample in a thousand."""
    size = np.abs(windows.reshape(-1, windows.shape[2]).astype(np.int32))
    shift = [
        next(s for s in range(16) if np.mean((size[:, c] + (1 << s >> 1)) >> s <= 127) >= 0.999)
        for c in range(windows.shape[2])
    ]
    return {
        "kind": "motion",
        "rate": float(rate),
        "channels": windows.shape[2],
        "window": windows.shape[1],
        "shift": shift,
    }


def quantize_windows(windows: NDArray[Any], features: dict[str, Any]) -> NDArray[np.int8]:
    """int16 windows (N, window, C) as a model's inputs: int8, of the same shape."""
    shift = np.array(features["shift"])
    return np.clip((windows.astype(np.int32) + (1 << shift >> 1)) >> shift, -128, 127).astype(
        np.int8
    )


def network_input(quantized: NDArray[np.int8]) -> NDArray[np.float32]:
    """int8 windows (N, window, C) as the float network's inputs: float32 (N, C, window)."""
    return np.ascontiguousarray(quantized.transpose(0, 2, 1) * np.float32(SCALE))
