"""What an operation checks before it runs: is this a map, which code runs on it, and in which data types?

This is the only place that decides whether PyTorch or Triton runs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from .compat import (
    AUTOCAST_DEVICES,
    HAS_CUSTOM_OPS,
    HAS_EXPORT_FLAG,
    autocast_dtype,
    autocast_enabled,
    is_compiling,
    is_dynamo_compiling,
    triton_obstacle,
)

BACKENDS = ('auto', 'torch', 'triton')
ENVIRONMENT = 'WEIGHTFORMER_BACKEND'
HALF = (torch.float16, torch.bfloat16)
# Where `auto` chooses Triton: compute capability → the GPU and the versions with which every test in
# tests/ops has passed. No GPU has run them yet.
VERIFIED: dict[tuple[int, int], str] = {}

_WITHOUT_TRITON = triton_obstacle()
_INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
_DTYPES = (torch.float32, *HALF)
_default = os.environ.get(ENVIRONMENT) or 'auto'
_logger = logging.getLogger(__name__)


def check_map(x: Tensor, channels: int | None = None) -> None:
    """Raise a ValueError unless ``x`` is ``(B, H, W, C)``, with ``C == channels`` if that is given."""
    if x.ndim != 4:
        raise ValueError(f'expected a feature map (B, H, W, C), got shape {tuple(x.shape)}')
    if channels is not None and x.shape[-1] != channels:
        raise ValueError(
            f'expected {channels} channels in the last axis, got shape {tuple(x.shape)}'
        )


def check_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Raise a ValueError that begins with ``name`` unless ``tensor`` has this shape."""
    if tuple(tensor.shape) != expected:
        raise ValueError(f'expected {name} of shape {expected}, got {tuple(tensor.shape)}')


def check_backend(backend: str) -> None:
    """Raise a ValueError that lists the valid names unless ``backend`` is one of them."""
    if backend not in BACKENDS:
        raise ValueError(f'unknown backend {backend!r}; choose one of {", ".join(BACKENDS)}')


def choose_backend(backend: str, x: Tensor, obstacle: str | None = None) -> str:
    """Which backend runs an operation on ``x``: ``'torch'`` or ``'triton'``.

    ``'auto'`` follows the environment variable ``WEIGHTFORMER_BACKEND``. If that is not set, ``'auto'`` means
    Triton on the GPUs in `VERIFIED` and PyTorch elsewhere; on another GPU the log says so once.

    Args:
        backend: ``'auto'``, ``'torch'`` or ``'triton'``.
        x: the operation's main input, of any shape.
        obstacle: why Triton cannot run on the operation's other arguments.

    Raises:
        ValueError: for another name, or if ``'triton'`` was asked for and cannot run on ``x``.
    """
    check_backend(backend)
    requested = backend if backend != 'auto' else _default
    if requested not in BACKENDS:
        raise ValueError(f'{ENVIRONMENT}={requested}: choose one of {", ".join(BACKENDS)}')
    if requested == 'torch' or is_exporting():  # a file holds no operators of this package
        return 'torch'
    if requested == 'auto':
        if x.device.type != 'cuda':
            return 'torch'
        obstacle = obstacle or _obstacle(x) or _unverified(x)
        if obstacle is not None and not is_compiling():
            _say_once(f"backend 'auto' uses PyTorch's own operations: {obstacle}")
        return 'triton' if obstacle is None else 'torch'
    obstacle = obstacle or _obstacle(x)
    if obstacle is not None:
        asked = "backend 'triton'" if backend != 'auto' else f'{ENVIRONMENT}=triton'
        raise ValueError(f"{asked}: {obstacle}; use 'auto' or 'torch' instead")
    return 'triton'


def _obstacle(x: Tensor) -> str | None:
    """Why Triton cannot run on ``x``; None if it can. Interpreted kernels also run on the CPU."""
    if _WITHOUT_TRITON is not None:
        return _WITHOUT_TRITON
    if is_transformed():
        return 'the Triton kernels take part in neither torch.func nor forward-mode derivatives'
    if x.device.type != 'cuda' and not (_INTERPRETED and x.device.type == 'cpu'):
        return f'the Triton kernels need a GPU, and the tensor is on {x.device.type!r}'
    if x.dtype not in _DTYPES:
        return f'the Triton kernels take float32, bfloat16 and float16, not {x.dtype}'
    if x.device.type == 'cuda' and torch.version.hip is None and torch.cuda.is_available():
        least = (8, 0) if x.dtype == torch.bfloat16 else (7, 0)
        capability = torch.cuda.get_device_capability(x.device)
        if capability < least:
            return f'{x.dtype} kernels need compute capability {least}, this GPU has {capability}'
    return None


def _unverified(x: Tensor) -> str | None:
    """Why `auto` does not use Triton on a GPU that has not run the tests; None on one that has."""
    if (
        VERIFIED
        and torch.cuda.get_device_capability(x.device) in VERIFIED
        and not torch.version.hip
    ):
        return None
    return (
        'the Triton kernels have not been verified on this GPU; '
        f"backend='triton' or {ENVIRONMENT}=triton switches to them"
    )


@functools.cache
def _say_once(message: str) -> None:
    _logger.info(message)


def is_exporting() -> bool:
    """Whether this call is traced by TorchScript or an ONNX exporter, or exported by ``torch.export``.

    The flag, because ``torch.compiler.is_exporting()`` is true for every compiler that traces it. Older torch
    has none; there, only an export that is not strict compiles without Dynamo.
    """
    if torch.jit.is_tracing():
        return True
    if HAS_EXPORT_FLAG:
        return torch.compiler._is_exporting_flag
    return is_compiling() and not is_dynamo_compiling()


def is_traced() -> bool:
    """Whether this call is compiled, exported, traced or transformed, and must be plain PyTorch."""
    return is_compiling() or is_exporting() or is_transformed()


def is_transformed() -> bool:
    """Whether ``torch.func`` transforms this call, or forward-mode derivatives accompany it.

    An operator with only a backward pass must not run then: it would silently drop the derivatives.
    """
    transforms = torch._C._are_functorch_transforms_active
    return not is_compiling() and (transforms() or forward_ad._current_level >= 0)


def form_of(eager: Callable, compiled: Callable, exported: Callable) -> Callable:
    """The form of a PyTorch operation for this call.

    Args:
        eager: the fastest.
        compiled: an operator of this package, which ``torch.compile`` keeps whole.
        exported: plain operations that hold for every size and batch, and read no number of the traced one.
    """
    if is_exporting():
        return exported
    return compiled if HAS_CUSTOM_OPS and is_dynamo_compiling() else eager


def product_dtype(x: Tensor) -> torch.dtype:
    """Data type for matrix products of ``x``: that of autocast, which leaves float64 alone."""
    device_type = x.device.type
    if x.dtype == torch.float64 or device_type not in AUTOCAST_DEVICES:
        return x.dtype
    return autocast_dtype(device_type) if autocast_enabled(device_type) else x.dtype


def without_autocast(device_type: str) -> AbstractContextManager:
    """A context in which autocast is off on this kind of device."""
    if device_type not in AUTOCAST_DEVICES:
        return contextlib.nullcontext()
    if is_exporting() and not autocast_enabled(device_type):  # keep the file's graph in one piece
        return contextlib.nullcontext()
    return torch.autocast(device_type=device_type, enabled=False)


def at_least_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run ``function`` outside autocast, with each half-precision argument converted to float32.

    A predicted parameter sums over all tokens of an image; float16 would overflow and bfloat16 lose the
    sum. float32 and float64 arguments pass unchanged, so float64 stays float64.
    """

    @functools.wraps(function)
    def wrapper(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with without_autocast(x.device.type):
            args = tuple(promote(argument) for argument in args)
            kwargs = {name: promote(argument) for name, argument in kwargs.items()}
            return function(promote(x), *args, **kwargs)

    return wrapper


def predict(predictor: nn.Module, x: Tensor) -> Tensor:
    """Call a predictor as `at_least_float32` calls a function: input and parameters in at least float32.

    A predictor whose own class sets ``takes_half = True`` converts the map itself while reading it. A
    half-precision predictor is called with float32 copies of its parameters and buffers; what it writes to
    them is lost.
    """
    if not vars(type(predictor)).get('takes_half', False):
        x = promote(x)
    with without_autocast(x.device.type):
        state = {**dict(predictor.named_parameters()), **dict(predictor.named_buffers())}
        if not any(tensor.dtype in HALF for tensor in state.values()):
            return predictor(x)
        if is_compiling():  # traced once: parameters are exchanged during the call
            promoted = {name: promote(tensor) for name, tensor in state.items()}
            return torch.func.functional_call(predictor, promoted, (promote(x),))
        # a forward replaced on the instance may still refer to the original module
        if any('forward' in vars(module) for module in predictor.modules()):
            with _Promotion():
                return predictor(promote(x))
        return _promoted_copy(predictor)(x)


def promote(argument: Any) -> Any:
    """A half-precision tensor in float32; anything else unchanged."""
    return argument.float() if isinstance(argument, Tensor) and argument.dtype in HALF else argument


def _promoted_copy(module: nn.Module) -> nn.Module:
    """A copy with promoted parameters and buffers; the module is not changed, as threads may share it."""
    copies: dict[Any, Any] = {part: object.__new__(type(part)) for part in module.modules()}
    for part, copy in list(copies.items()):
        vars(copy).update(vars(part))
        for kind in ('_parameters', '_buffers'):
            tensors = vars(part)[kind]
            vars(copy)[kind] = {name: promote(tensor) for name, tensor in tensors.items()}
        children = vars(part)['_modules']
        vars(copy)['_modules'] = {name: copies.get(child) for name, child in children.items()}
    return copies[module]


class _Promotion(TorchFunctionMode):
    """Converts the arguments of each operation as it runs: slower, but nothing is copied or written."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return func(*tree_map(promote, args), **tree_map(promote, kwargs or {}))
