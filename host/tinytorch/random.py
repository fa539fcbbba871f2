"""The common random generator, of initial weights, dropout, shuffling and transforms.

A data loader's workers run in parallel, in any order. So that results do not depend on it, each
batch is made with its own generator: `drawing_from` puts it in place of the common one, in its
thread only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import numpy as np


class Generator(np.random.Generator):
    """PyTorch's Generator: numpy's, with a method to seed it again."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64())

    def manual_seed(self, seed: int) -> "Generator":
        """Seed the generator. Returns self."""
        self.bit_generator.state = np.random.PCG64(seed).state
        return self


Source = Callable[[], np.random.Generator]  # a batch that draws nothing needs no generator made

_common = Generator()
_source: ContextVar[Source] = ContextVar("source", default=lambda: _common)


class _Current:
    """Forwards to the current generator of the thread."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_source.get()(), name)


generator = cast(Generator, _Current())


@contextmanager
def drawing_from(source: Source) -> Iterator[None]:
    """A context in which `generator` is what `source` returns."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def manual_seed(seed: int) -> Generator:
    """Seed the common generator, and return it."""
    set_rng_state(np.random.PCG64(seed).state)
    return generator


def get_rng_state() -> dict[str, Any]:
    """The generator's state: a dict of ints and strings that fits into JSON."""
    return dict(generator.bit_generator.state)


def set_rng_state(state: Any) -> None:
    """Set the generator's state to one from `get_rng_state`."""
    generator.bit_generator.state = state
