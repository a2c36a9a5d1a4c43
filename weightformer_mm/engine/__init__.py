"""Training, testing and inference on top of mmengine: what the command lines in ``tools/`` call.

Importing this package registers its hooks, optimizer wrapper, sampler, sharding strategy and the constructor
for layer-wise learning rate decay in mmengine's root registries, and ``hf://``.
Without mmengine the import still works, so that a tool can say what is missing.
"""

from __future__ import annotations

from importlib.util import find_spec

from .errors import UserError
from .tool import run_tool

if find_spec('mmengine') is not None:
    from . import amp, fsdp, hooks, layer_decay, optimizers, randomness  # noqa: F401
    from .weight_sources import register_hub

    register_hub()

__all__ = ['UserError', 'run_tool']
