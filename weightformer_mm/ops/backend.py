"""Which code runs an operation, PyTorch's own or the Triton kernels: the only place that decides."""

from __future__ import annotations

import logging
import os

import torch
from torch import Tensor

from .compat import is_compiling, is_transformed, triton_obstacle

BACKENDS = ('auto', 'torch', 'triton')
ENVIRONMENT = 'WEIGHTFORMER_BACKEND'

_WITHOUT_TRITON = triton_obstacle()
_INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_default = os.environ.get(ENVIRONMENT) or 'auto'
_said: set[str] = set()
_logger = logging.getLogger(__name__)


def check_backend(backend: str) -> None:
    """Raise a ValueError that lists the valid names unless ``backend`` is one of them."""
    if backend not in BACKENDS:
        raise ValueError(f'unknown backend {backend!r}; choose one of {", ".join(BACKENDS)}')


def choose_backend(backend: str, x: Tensor) -> str:
    """``'torch'`` or ``'triton'``: what runs an operation on ``x``.

    ``'auto'`` is what the environment variable ``WEIGHTFORMER_BACKEND`` says and, without it, Triton for
    tensors on a GPU where Triton 3.0 or later is installed, PyTorch for all others; the log says once why
    not Triton.

    Args:
        backend: ``'auto'``, ``'torch'`` or ``'triton'``.
        x: the operation's main input, of any shape.

    Raises:
        ValueError: for another name, or if ``'triton'`` was asked for and cannot run on ``x``.
    """
    check_backend(backend)
    requested = backend if backend != 'auto' else _default
    if requested not in BACKENDS:
        raise ValueError(f'{ENVIRONMENT}={requested}: choose one of {", ".join(BACKENDS)}')
    if requested == 'torch':
        return 'torch'
    if requested == 'auto' and torch.jit.is_tracing():
        return 'torch'
    obstacle = _obstacle(x, interpreted=_INTERPRETED and requested == 'triton')
    if obstacle is None:
        return 'triton'
    if requested == 'triton':
        asked = "backend 'triton'" if backend != 'auto' else f'{ENVIRONMENT}=triton'
        raise ValueError(f"{asked}: {obstacle}; use 'auto' or 'torch' instead")
    _say_once(f"backend 'auto' uses PyTorch's own operations: {obstacle}")
    return 'torch'


def _obstacle(x: Tensor, interpreted: bool) -> str | None:
    """Why Triton cannot run on ``x``; None if it can. Interpreted kernels also run on the CPU."""
    if _WITHOUT_TRITON is not None:
        return _WITHOUT_TRITON
    if is_transformed():
        return 'the Triton kernels take part in neither torch.func nor forward-mode derivatives'
    if x.device.type != 'cuda' and not (interpreted and x.device.type == 'cpu'):
        return f'the Triton kernels need a GPU, and the tensor is on {x.device.type!r}'
    if x.dtype not in _DTYPES:
        return f'the Triton kernels take float32, bfloat16 and float16, not {x.dtype}'
    if x.device.type == 'cuda' and torch.version.hip is None and torch.cuda.is_available():
        least = (8, 0) if x.dtype == torch.bfloat16 else (7, 0)
        capability = torch.cuda.get_device_capability(x.device)
        if capability < least:
            return f'{x.dtype} kernels need compute capability {least}, this GPU has {capability}'
    return None


def _say_once(message: str) -> None:
    if is_compiling() or message in _said:
        return
    _said.add(message)
    _logger.info(message)
