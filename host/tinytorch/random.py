"""The one source of chance: initial weights, dropout, shuffling and transforms use `generator`.

A data loader's workers run beside the training, in any order. So that chance does not depend on
it, what a batch draws while it is made comes from a generator of the batch's own: `drawing_from`
puts it in the place of the common one, for its own thread only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import numpy as np


class Generator(np.random.Generator):
    """PyTorch's Generator: numpy's, which can be started again."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64())

    def manual_seed(self, seed: int) -> "Generator":
        """Start again from a seed."""
        self.bit_generator.state = np.random.PCG64(seed).state
        return self


Source = Callable[[], np.random.Generator]  # a batch that draws nothing needs no generator made

_common = Generator()
_source: ContextVar[Source] = ContextVar("source", default=lambda: _common)


class _Current:
    """The generator of this thread, at the time of each use."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_source.get()(), name)


generator = cast(Generator, _Current())


@contextmanager
def drawing_from(source: Source) -> Iterator[None]:
    """Within it `generator` is what `source` returns."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def manual_seed(seed: int) -> Generator:
    """Start all that is random again from `seed`."""
    set_rng_state(np.random.PCG64(seed).state)
    return generator


def get_rng_state() -> dict[str, Any]:
    """Where the generator stands, as plain numbers and strings that fit into JSON."""
    return dict(generator.bit_generator.state)


def set_rng_state(state: Any) -> None:
    """Go back to where `get_rng_state` was called."""
    generator.bit_generator.state = state
