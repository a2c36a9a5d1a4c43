"""Test-time augmentation, and predictions as files."""
