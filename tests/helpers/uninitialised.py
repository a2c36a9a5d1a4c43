"""Building large models whose values do not matter."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# what timm's and PyTorch's functions for first weights are made of
_DRAWING = {getattr(torch.Tensor, f'{name}_') for name in ('uniform', 'normal', 'erfinv')}
_SCALING = {getattr(torch.Tensor, f'{name}_') for name in ('mul', 'add', 'clamp')}


class Uninitialised(TorchFunctionMode):
    """Inside, parameters keep what their memory holds: drawing them takes most of the time of a build."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in _DRAWING or func in _SCALING:
            return args[0]
        return func(*args, **(kwargs or {}))
