"""Kernels for the Cortex-M0+ (RP2040), in Thumb code for ARMv6-M.

`backend` has a row for each kind of operation, `thumb` is the assembler, and `frame` what all
kernels begin and end with. A new kernel is a file like `add` (a shape, a function that writes its
code, and `candidates`), and a row.
"""
