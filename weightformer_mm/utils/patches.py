"""Every attribute of another library's object that this package replaces, why, and what makes it needless.

Subclasses, hooks and registries come first; these are the places that none of them reaches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn


def return_float32(module: nn.Module) -> None:
    """Replace ``module.forward`` by one whose bfloat16 outputs are cast to float32.

    A forward hook does not do: the heads of mmseg call ``self.forward`` past ``__call__``. Needless once the
    operators of mmcv (RoIAlign, NMS, deformable attention) accept bfloat16; those of 2.3.6 do not.
    """
    module.forward = _with_float32(module.forward)


def clip_over_processes(wrapper: OptimWrapper, model: nn.Module) -> None:
    """Replace ``wrapper.clip_func`` by that of a sharded ``model``, which sums over all processes.

    ``OptimWrapper`` sets the function in its constructor and takes none as an argument; torch's own would see
    the shards of this process alone. Needless once mmengine's FSDP strategy does it; 0.10.12 does not.
    """
    if getattr(wrapper, 'clip_func', None) is torch.nn.utils.clip_grad_norm_:
        wrapper.clip_func = lambda parameters, *args, **kwargs: model.clip_grad_norm_(
            *args, **kwargs
        )


def _with_float32(forward: Callable) -> Callable:
    @functools.wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _float32(forward(*args, **kwargs))

    return wrapper


def _float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if type(value) in (list, tuple):
        return type(value)(_float32(item) for item in value)
    return value
