"""Metrics, test-time augmentation, and predictions as files."""

from . import cue_accuracy  # noqa: F401
