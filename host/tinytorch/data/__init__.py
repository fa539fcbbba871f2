"""Recordings: where they come from, how they are kept, what cuts and changes them."""
