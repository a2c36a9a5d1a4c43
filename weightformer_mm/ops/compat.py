"""Newer parts of PyTorch and Triton, guarded in one place: the package runs with torch 2.1 and later."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils import flop_counter
from torch.utils._pytree import tree_map

# torch >= 2.4: operators that torch.compile keeps whole
HAS_CUSTOM_OPS = hasattr(torch.library, 'custom_op')
# on others torch 2.1 refuses even to switch autocast off
AUTOCAST_DEVICES = ('cpu', 'cuda', 'xpu')
# the first Triton that compiles every kernel of this package; Triton 2 aborts the process on some
LEAST_TRITON = (3, 0)


def triton_version() -> tuple[int, int] | None:
    """Major and minor version of the installed Triton, or None; read as text, without importing it."""
    spec = find_spec('triton')
    if spec is None or spec.origin is None:
        return None
    found = re.search(
        r"^__version__ = ['\"](\d+)\.(\d+)", Path(spec.origin).read_text(), re.MULTILINE
    )
    return (int(found[1]), int(found[2])) if found else None


def triton_obstacle() -> str | None:
    """Why there is no Triton that compiles the kernels; None if there is."""
    version = triton_version()
    if version is None:
        return 'Triton is not installed'
    if version < LEAST_TRITON:
        return 'the kernels need Triton >= {}.{}, installed is {}.{}'.format(
            *LEAST_TRITON, *version
        )
    return None


def is_compiling() -> bool:
    """Whether ``torch.compile`` (or export) traces this call."""
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()


def is_traced() -> bool:
    """Whether this call is compiled, exported, traced or transformed, and must be plain PyTorch."""
    return is_compiling() or torch.jit.is_tracing() or is_transformed()


def is_transformed() -> bool:
    """Whether ``torch.func`` transforms this call, or forward-mode derivatives go along with it.

    What has a backward pass alone must not run then: an operator would drop the derivatives without a word.
    """
    transforms = torch._C._are_functorch_transforms_active
    return not is_compiling() and (transforms() or forward_ad._current_level >= 0)


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


def flop_formulas(additional: dict) -> dict[object, Callable[..., int]]:
    """What PyTorch's counter computes for each operation, by operator.

    Args:
        additional: formulas on shapes, as ``FlopCounterMode(custom_mapping=...)`` takes them.

    Returns:
        formulas on tensors, to be called as ``formula(*args, **kwargs, out_val=output)``, in FLOPs.
    """
    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=additional)
    if hasattr(counter, 'flop_registry'):
        return counter.flop_registry

    def on_tensors(formula: Callable[..., int]) -> Callable[..., int]:  # torch 2.1
        def called(*args: object, out_val: object, **kwargs: object) -> int:
            args, kwargs, shape = tree_map(flop_counter.get_shape, (args, kwargs, out_val))
            return formula(*args, **kwargs, out_shape=shape)

        return called

    return {operator: on_tensors(formula) for operator, formula in counter.flop_mapping.items()}
