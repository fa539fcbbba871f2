"""Models on the laptop: the shared reader with numpy kernels, a batch at a time."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.modelfile import header
from tinytorch.qops.kernels import KERNELS
from tinytorch_core import model

BATCH = 256  # bounds the memory of a run: the arenas of one batch lie side by side


class Model(model.Model):
    """A quantized network from a model file, or from the file's bytes.

    The board's interface, and `quantize`, `run_batch` and `predict_batch`, which take the first
    axis as samples.
    """

    kernels = KERNELS
    _arena: Any

    def __init__(self, path: "str | os.PathLike[str] | bytes"):
        self.data = path if isinstance(path, bytes) else Path(path).read_bytes()
        super().__init__(path)
        # `input` and `output` go on viewing the same bytes; the kernels want (batch, bytes).
        self._arena = np.frombuffer(self._arena, np.int8).reshape(1, -1)

    def _open(self) -> io.BytesIO:
        return io.BytesIO(self.data)

    @property
    def operations(self) -> list[model.Op]:
        """The operation records, in the order in which they run."""
        return [model.Op(self._program, at) for _, at in self._steps]

    @property
    def meta_bytes(self) -> int:
        """Length of the file's JSON."""
        return header.read(self.data).meta_bytes

    @property
    def histories(self) -> list[tuple[int, int, int]]:
        """Where a model of a stream keeps what later steps need, from the first byte kept over
        those that are new with each step to the end: [(at, new at, end)]; none in another model."""
        moves = [model.Op(self._program, at) for at in self._moves]
        sizes = [op.in_h * op.in_w * op.in_c for op in moves]
        return [(op.y, op.y + n, op.x + n) for op, n in zip(moves, sizes, strict=True)]

    def quantize(self, x: NDArray[np.floating]) -> NDArray[np.int8]:
        """Real inputs, any shape, as the int8 values that the network takes.

        Raises TypeError for integers, which might be meant either way, and ValueError for NaN.
        """
        x = np.asarray(x)
        if x.dtype.kind != "f":
            raise TypeError(f"The model takes int8 values or floats, and got {x.dtype}.")
        if np.isnan(x).any():
            raise ValueError("The input holds NaN: give finite numbers.")
        q = np.rint(x.astype(np.float32) / np.float32(self.scale)) + self.zero_point
        return np.clip(q, -128, 127).astype(np.int8)

    def predict(self, x: "NDArray | Sequence[int] | Sequence[float]") -> int:
        """The index of the best class for one input: int8, or real and quantized here."""
        if isinstance(x, np.ndarray):
            x = (x if x.dtype == np.int8 else self.quantize(x)).reshape(-1).tolist()
        return super().predict(x)

    def run_batch(self, x: NDArray) -> NDArray[np.int8]:
        """(N, *input_shape) of the input's type to (N, *output_shape) int8, in numpy.

        Of a model of a stream, each sample is a first step. Raises ValueError where the shape or
        the type differs.
        """
        return self.run_stream(np.asarray(x)[:, None])[:, 0]

    def run_stream(self, x: NDArray) -> NDArray[np.int8]:
        """N streams, each from a reset on: (N, steps, *input_shape) of the input's type to
        (N, steps, *output_shape) int8. Raises ValueError where the shape or the type differs."""
        x = np.asarray(x)
        if x.shape[2:] != self.input_shape or x.dtype != np.dtype(self.input_type):
            raise ValueError(
                f"The model takes {self.input_type} inputs of shape (N, {str(self.input_shape)[1:]}"
                f" and got {x.dtype} of shape {(*x.shape[:1], *x.shape[2:])}."
            )
        outputs = np.zeros((*x.shape[:2], *self.output_shape), np.int8)
        for i in range(0, len(x), BATCH):
            self._run_arenas(x[i : i + BATCH], outputs[i : i + BATCH])
        return outputs

    def _run_arenas(self, x: NDArray, outputs: NDArray[np.int8]) -> None:
        self.reset()
        arenas = np.tile(self._arena, (len(x), 1))
        for step in range(x.shape[1]):
            given = np.ascontiguousarray(x[:, step].reshape(len(x), -1)).view(np.int8)
            arenas[:, self._input_at : self._input_at + len(self.input)] = given
            for kernel, at in self._steps:
                kernel(arenas, self._program, at)
            y = arenas[:, self._output_at : self._output_at + len(self.output)]
            outputs[:, step] = y.reshape(-1, *self.output_shape)

    def predict_batch(self, x: NDArray) -> NDArray[np.int64]:
        """The index of each sample's best class, (N,); x is int8, or real and quantized here."""
        q = x if x.dtype == np.int8 else self.quantize(x)
        return self.run_batch(q).reshape(len(x), len(self.output)).argmax(1)
