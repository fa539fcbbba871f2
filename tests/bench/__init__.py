"""Figures of speed and accuracy, measured on one thread."""
