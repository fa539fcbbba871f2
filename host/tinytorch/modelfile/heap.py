"""The heap that a model takes on a kit."""

from tinytorch.modelfile import section
from tinytorch.modelfile.arena import align
from tinytorch.modelfile.runtime import Model

# Heap that a model takes beside its program and arena, in bytes by the kit's machine word: for any
# model, for each operation, for each label, for each byte of the JSON. Fitted to what kits measured
# with models of 2 to 24 operations and 4 to 40 labels (MicroPython 1.24 RP2040, 1.29 unix).
OBJECTS = {4: (2860, 166, 31, 1.75), 8: (4290, 330, 71, 1.75)}
# The same of binding machine code, whose module is only loaded for it: for any model, for each
# operation (models of 3 to 23 operations on the RP2040).
MACHINE = (5700, 72)
# The same of a stream of sound, whose tables are checked and whose seven buffers are filled (on the
# virtual kit MEL's kernel in viper is loaded for it, too).
STREAM = {4: 12400, 8: 21600}


def ram(model: Model, word: int) -> int:
    """Bytes of heap, at the peak, that a kit needs to load a model and run it.

    word: bytes of the kit's machine word, 4 on a board and 8 on the virtual kit.
    """
    block = 4 * word  # of the garbage collector
    found = section.read(model.data)
    amounts = (1, len(model.operations), len(model.labels), model.meta_bytes)
    objects = sum(n * each for n, each in zip(amounts, OBJECTS[word], strict=True))
    parts = [model.program_bytes, found.arena_bytes if found else model.arena_bytes]
    if model.histories:
        objects += STREAM[word]
    if found:
        parts.append(len(found.data))
        objects += MACHINE[0] + MACHINE[1] * len(model.operations)
    return sum(align(n, block) for n in parts) + int(objects)
