"""Training hooks: checkpoints, and stopping when training diverges."""

from . import checkpoint, training  # noqa: F401
