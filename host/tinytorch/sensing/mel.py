"""Sound features: their settings, and the tables of the integer mel front end."""

import math
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.qops.mel import Engine, Int16, Int32, frames_of
from tinytorch_core.mel import HEAD, HEAD_BYTES, HEAD_FORMAT, MOST_BINS

SCALE, ZERO_POINT = 1 / 32, 0  # of features with standard deviation 1
MOST_LEVEL = 12288  # of a band's logarithm: 48 bits of 256 steps


@dataclass(frozen=True)
class Front:
    """The settings of the front end, which gives log2 of mel energies, times 256.

    rate: Hz; window, hop: samples, window even; points: of the FFT, a power of two; bands:
    triangular filters, evenly spaced in mel (2595 log10(1 + f / 700)), from low to high in Hz;
    floor: the minimum level.
    Raises ValueError for settings that the integer arithmetic cannot hold.
    """

    rate: int
    window: int
    hop: int
    points: int
    bands: int = 20
    low: float = 60.0
    high: float = 3800.0
    floor: int = 1024

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high <= self.rate / 2:
            raise ValueError(
                f"The mel bands from {self.low:g} to {self.high:g} Hz do not fit below half of "
                f"{self.rate} Hz: choose others."
            )
        if self.points & (self.points - 1) or not 2 <= self.window <= self.points <= 2048:
            raise ValueError(
                f"A window of {self.window} samples does not fit into an FFT of {self.points} "
                "points: give a power of two up to 2048 that is not below the window."
            )
        if self.window % 2 or self.hop < 1:
            raise ValueError("The window must be an even number of samples, and the hop positive.")
        if max(self.segments()[1]) > MOST_BINS:
            raise ValueError(f"A mel band has more than {MOST_BINS} bins: use more bands.")

    @staticmethod
    def usual(rate: int, **settings: Any) -> "Front":
        """The default front end for a rate in Hz: windows of 40 ms every 20 ms."""
        window = rate // 25
        points = 1 << (window - 1).bit_length()
        return Front(rate, window, rate // 50, points, **settings)

    def edges(self) -> NDArray[np.float64]:
        """The edges of the triangular filters, (bands + 2,), in bins."""
        mel = 2595 * np.log10(1 + np.array([self.low, self.high]) / 700)
        hertz = 700 * (10 ** (np.linspace(mel[0], mel[1], self.bands + 2) / 2595) - 1)
        return hertz * self.points / self.rate

    def segments(self) -> tuple[int, list[int], NDArray[np.uint8]]:
        """The first bin, the number of bins between two edges, and each bin's rising weight."""
        edges = self.edges()
        first = max(1, math.ceil(edges[0]))
        bins = np.arange(first, min(math.ceil(edges[-1]), self.points // 2))
        place = np.clip(np.searchsorted(edges, bins, "right") - 1, 0, self.bands)
        weights = np.rint(128 * (bins - edges[place]) / (edges[place + 1] - edges[place]))
        counts = np.bincount(place, minlength=self.bands + 1).tolist()
        return first, counts, np.clip(weights, 0, 128).astype(np.uint8)

    def scaling(self) -> tuple[int, int]:
        """`down` and `free`, such that no product and no power leaves 31 bits."""
        total = float(self.hann().sum()) / 32768
        stages = (self.points // 2).bit_length() - 1
        for down in range(1, 9):
            for free in range(2, -1, -1):
                # A little less than 2**15.5: what the rounding of all stages may add.
                if total * 2.0 ** (15 - down - (stages - free)) < 46000:
                    return down, free
        raise ValueError("The window is too long for its FFT: use more points.")

    def hann(self) -> Int16:
        """The periodic Hann window, times 2**15."""
        w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        return np.minimum(np.rint(w * 32768), 32767).astype(np.int16)

    def frames(self, samples: int) -> int:
        """The number of whole frames in so many samples."""
        return max(0, (samples - self.window) // self.hop + 1)


def tables(front: Front, matrix: Int16, bias: Int32, shift: int) -> bytes:
    """The table block of tinytorch_core.mel. matrix: (values, bands); bias: (values,).

    Raises ValueError where a sum could leave 32 bits.
    """
    bound = np.abs(matrix.astype(np.int64)).sum(1) * MOST_LEVEL + np.abs(bias.astype(np.int64))
    if bound.max() >= 1 << 31:
        raise ValueError(
            "The feature matrix is too large for sums of 32 bits: use a smaller shift."
        )
    half = front.points // 2
    first, counts, weights = front.segments()
    down, free = front.scaling()
    angle = 2 * np.pi * np.arange(half) / front.points
    twiddle = np.rint(16384 * np.stack([np.cos(angle), np.sin(angle)], 1))
    bits = half.bit_length() - 1
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(half)]
    log = np.minimum(np.rint(256 * np.log2(1 + (np.arange(256) + 0.5) / 256)), 255)
    parts = {
        "bias": bias.astype("<i4"),
        "twiddle": twiddle.astype("<i2"),
        "window": front.hann().astype("<i2"),
        "order": np.array(order, "<u2"),
        "counts": np.array(counts, "<u2"),
        "matrix": matrix.astype("<i2"),
        "log": log.astype(np.uint8),
        "weights": weights,
    }
    places, body = {}, b""
    for name, part in parts.items():
        body += bytes(-len(body) % 4)
        places[name] = HEAD_BYTES + len(body)
        body += part.tobytes()
    body += bytes(-len(body) % 4)
    values = {
        "points": front.points, "bands": front.bands, "first": first, "bins": len(weights),
        "down": down, "free": free, "floor": front.floor, "shift": shift,
        "bytes": HEAD_BYTES + len(body), **places,
    }  # fmt: skip
    return struct.pack(HEAD_FORMAT, *(values[name] for name in HEAD)) + body


def cepstrum(values: int, bands: int) -> NDArray[np.float64]:
    """The first `values` rows of the orthonormal DCT-II matrix: (values, bands)."""
    angle = np.pi / bands * np.arange(values)[:, None] * (np.arange(bands) + 0.5)
    return np.cos(angle) * np.sqrt(np.where(np.arange(values) == 0, 1, 2) / bands)[:, None]


def sound_features(
    clips: Int16, front: Front, values: int, frames: int, step: int = 4
) -> dict[str, Any]:
    """Settings with which each value has mean 0 and standard deviation 1 over clips (N, samples).

    values: the number of cepstral coefficients; with as many as bands, the band levels themselves.
    frames: of the network's window; step: the frames between two outputs of a stream.
    """
    transform = cepstrum(values, front.bands) if values < front.bands else np.eye(front.bands)
    ones = np.ones((1, front.bands), np.int16)
    plain = Engine(tables(front, ones, np.zeros(1, np.int32), 8), 0, front.window, 1)
    levels = plain.levels(frames_of(clips, front.window, front.hop).reshape(-1, front.window))
    real = levels @ transform.T
    scale = 1 / (SCALE * np.maximum(real.std(0), 1))
    matrix, bias = transform * scale[:, None], 0.5 - real.mean(0) * scale
    bound = np.abs(matrix).sum(1) * MOST_LEVEL + np.abs(bias) + front.bands
    shift = min(31, *np.log2(0.999 * 2**31 / bound), *np.log2(32767 / np.abs(matrix).max(1)))
    factor = 1 << int(shift)
    return {
        "kind": "sound",
        **asdict(front),
        "frames": frames,
        "step": step,
        "values": values,
        "matrix": np.rint(matrix * factor).astype(int).tolist(),
        "bias": np.rint(bias * factor).astype(int).tolist(),
        "shift": int(shift),
    }


def front_of(features: dict[str, Any]) -> Front:
    """The front end of settings that `sound_features` made."""
    return Front(**{field.name: features[field.name] for field in fields(Front)})


def tables_of(features: dict[str, Any]) -> bytes:
    """The table block of settings that `sound_features` made."""
    matrix, bias = np.array(features["matrix"], np.int16), np.array(features["bias"], np.int32)
    return tables(front_of(features), matrix, bias, features["shift"])


def samples_of(features: dict[str, Any]) -> int:
    """The number of samples in a window of the network."""
    return (features["frames"] - 1) * features["hop"] + features["window"]


class Features:
    """Computes int8 features (N, frames, values) of int16 clips (N, samples_of(features)).

    The bytes are those of the board.
    """

    def __init__(self, features: dict[str, Any]) -> None:
        self.window, self.hop = features["window"], features["hop"]
        self._engine = Engine(tables_of(features), 0, self.window, features["values"])

    def __call__(self, clips: Int16) -> NDArray[np.int8]:
        frames = frames_of(clips, self.window, self.hop)
        found = self._engine.features(frames.reshape(-1, self.window))
        return found.reshape(*frames.shape[:2], -1)
