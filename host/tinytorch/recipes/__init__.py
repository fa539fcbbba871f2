"""Trainings by configuration."""
