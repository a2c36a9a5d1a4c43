"""Half-precision copies of parameters, made together once per forward pass instead of one by one.

They cannot be kept longer: an optimizer, and mmengine's EMA hook, change parameters through ``.data``, which
no version counter sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from .second_order import is_differentiated

_current: ContextVar[dict[tuple, Tensor] | None] = ContextVar('copies', default=None)


def _key(tensor: Tensor) -> tuple:
    """The same for all views of one parameter."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.numel()


def _converted(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    if copies:
        torch._foreach_copy_(copies, list(tensors))
    return copies


@contextmanager
def half_copies(parameters: Sequence[Tensor], dtype: torch.dtype) -> Iterator[None]:
    """Copy the parameters to ``dtype`` in few launches; `half` finds the copies inside the block."""
    with torch.no_grad():
        copies = _converted(parameters, dtype)
    token = _current.set({_key(parameter): copy for parameter, copy in zip(parameters, copies)})
    try:
        yield
    finally:
        _current.reset(token)


def copy_of(parameter: Tensor) -> Tensor:
    """The copy of a parameter, or of a view of a whole one, that `half_copies` made; else the parameter."""
    copies = _current.get()
    copy = copies.get(_key(parameter)) if copies else None
    return parameter if copy is None else copy.as_strided(parameter.shape, parameter.stride())


def copies_of(*parameters: Tensor) -> tuple[Tensor, ...]:
    """`copy_of` each, for operations that leave their gradients to autograd."""
    copies = tuple(map(copy_of, parameters))
    if any(copy is parameter for copy, parameter in zip(copies, parameters)):
        return parameters
    return _Copies.apply(*parameters) if torch.is_grad_enabled() else copies


class _Copies(torch.autograd.Function):
    """Copies that were made before; their gradients are converted together."""

    @staticmethod
    def forward(ctx, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = parameters[0].dtype
        return tuple(copy_of(parameter).detach() for parameter in parameters)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, ...]:
        if is_differentiated():
            return tuple(grad.to(ctx.dtype) for grad in grads)
        return tuple(_converted(grads, ctx.dtype))


def half(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter in ``dtype``, copied now if there is no copy of it; gradients do not pass."""
    return parameter if parameter.dtype == dtype else copy_of(parameter).detach().to(dtype)
