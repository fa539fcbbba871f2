"""How sums become outputs in the kernels of operations with weights, in either tier."""

from dataclasses import dataclass

COARSE_BITS = 5


@dataclass(frozen=True)
class Lane:
    """The lane tier's output, (sum * m + b) >> shift. shift None: it is a parameter, in r1, so that
    layers share the code; where r1 is needed for something else (`shift_in_code`) it is here.
    wide: outputs reach further than the clip table, and are compared with low and high first."""

    shift: "int | None" = None
    wide: bool = False


@dataclass(frozen=True)
class Exact:
    """TensorFlow Lite's requantization. (sum >> coarse) * m + b is the output with `fraction` bits
    of fraction, a little too large; where the fraction is below the parameter `doubt` (unsigned, of
    2**32), and with 0 bits of it always, the exact arithmetic decides. A row has
    m << COARSE_BITS | coarse in place of m. wide: as of Lane."""

    fraction: int
    wide: bool = False


Tail = Lane | Exact
