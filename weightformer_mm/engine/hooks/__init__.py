"""Hooks of a training: its checkpoints, and its end when it diverges."""

from . import checkpoint, training  # noqa: F401
