"""Kernels for the Cortex-M0+ (RP2040) in ARMv6-M Thumb code."""
