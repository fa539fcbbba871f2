"""How Python calls machine code on an ARM board: `call(arena, program, params)`.

params: address of a parameter block, whose first word is the code's address. The inline assembler
keeps r4 to r7 and the return address, the code keeps r4 to r11.
"""

import micropython


@micropython.asm_thumb
def call(r0, r1, r2):
    ldr(r3, [r2, 0])
    data(2, 0x4798)  # blx r3, which the inline assembler does not have
