"""Runners: mmengine's, with what they need to resume exactly and to fail in one line."""

from . import fsdp, randomness  # noqa: F401
