"""timm's optimizers, mixed precision, and learning rates by layer."""

from . import amp, layer_decay, timm_optimizers  # noqa: F401
