"""The kernels section of a model file, on the laptop."""

import numpy as np
import pytest

from tests.sections import ARMV6M, STEPS, copies, hanging, made, patched
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import attach_section, read

PLAIN = copies(vectors=2)


def test_a_section_is_attached_read_replaced_and_taken_off():
    assert read(PLAIN) is None
    data = attach_section(PLAIN, made())
    found = read(data)
    assert found is not None and found.data == made()
    assert (found.arch, found.arena_bytes, found.input_at, found.output_at) == (ARMV6M, 240, 8, 200)
    assert found.steps == STEPS and found.viper == 1
    assert attach_section(data, hanging()) == attach_section(PLAIN, hanging()) != data
    assert attach_section(data, b"") == PLAIN


def test_the_laptop_passes_over_it():
    model = Model(attach_section(PLAIN, made()))
    assert model.verify() == 2
    x = np.arange(40, dtype=np.int8)[None]
    assert (model.run_batch(x) == x).all()


@pytest.mark.parametrize(
    "bad", [made()[:40], made()[:-4], patched(0, 0), patched(4, 2, "<H"), patched(24, 1 << 30)]
)
def test_a_section_of_another_kind_is_refused(bad):
    with pytest.raises(ValueError, match="kernels section of an unknown kind"):
        read(attach_section(PLAIN, bad))
