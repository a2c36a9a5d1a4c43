"""Newer parts of PyTorch, guarded in one place: the package runs with torch 2.1 and later."""

from __future__ import annotations

import torch
from torch import Tensor

# torch >= 2.4: operators that torch.compile keeps whole
HAS_CUSTOM_OPS = hasattr(torch.library, 'custom_op')
# on others torch 2.1 refuses even to switch autocast off
AUTOCAST_DEVICES = ('cpu', 'cuda', 'xpu')


def is_compiling() -> bool:
    """Whether ``torch.compile`` (or export) traces this call."""
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()


def is_traced() -> bool:
    """Whether this call is compiled, exported, traced or transformed, and must be plain PyTorch."""
    return is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()


def keeps_operators() -> bool:
    """Whether ``torch.compile`` traces this call and keeps the operators of this package whole."""
    return HAS_CUSTOM_OPS and torch.compiler.is_dynamo_compiling()


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """What autocast computes matrix products in on this kind of device; None where it is off."""
    if device_type not in AUTOCAST_DEVICES:
        return None
    if hasattr(torch, 'get_autocast_dtype'):
        on = torch.is_autocast_enabled(device_type)
        return torch.get_autocast_dtype(device_type) if on else None
    if device_type == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def product_dtype(x: Tensor) -> torch.dtype:
    """What a matrix product of ``x`` is computed in: that of autocast, which leaves float64 alone."""
    dtype = None if x.dtype == torch.float64 else autocast_dtype(x.device.type)
    return x.dtype if dtype is None else dtype
