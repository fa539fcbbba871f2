"""Recordings: data sets, files, windows and data augmentation."""
