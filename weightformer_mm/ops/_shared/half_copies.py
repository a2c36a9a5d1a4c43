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

_current: ContextVar[dict[tuple, Tensor] | None] = ContextVar('copies', default=None)


def _key(tensor: Tensor) -> tuple:
    """The same for all views of one parameter."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.numel()


@contextmanager
def half_copies(parameters: Sequence[Tensor], dtype: torch.dtype) -> Iterator[None]:
    """Copy the parameters to ``dtype`` in few launches; `half` finds the copies inside the block."""
    with torch.no_grad():
        copies = [torch.empty_like(parameter, dtype=dtype) for parameter in parameters]
        if copies:
            torch._foreach_copy_(copies, list(parameters))
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


def half(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter in ``dtype``, copied now if there is no copy of it; gradients do not pass."""
    return parameter if parameter.dtype == dtype else copy_of(parameter).detach().to(dtype)
