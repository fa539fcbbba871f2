"""The one source of chance: initial weights, dropout and shuffling all draw from `generator`."""

from typing import Any

import numpy as np

generator = np.random.Generator(np.random.PCG64())


def manual_seed(seed: int) -> None:
    """Start all that is random again from `seed`."""
    set_rng_state(np.random.PCG64(seed).state)


def get_rng_state() -> dict[str, Any]:
    """Where the generator stands, as plain numbers and strings that fit into JSON."""
    return dict(generator.bit_generator.state)


def set_rng_state(state: Any) -> None:
    generator.bit_generator.state = state
