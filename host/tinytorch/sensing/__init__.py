"""Gestures and words: features, networks, trainings."""
