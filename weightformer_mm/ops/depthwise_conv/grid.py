"""The Triton means over a coarse grid as a differentiable operator."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import operator
from . import reference

# Triton is imported with the kernels, when one of them first runs.


def _fake(x: Tensor, size: int) -> Tensor:
    return x.new_empty((x.shape[0], size, size, x.shape[3]), dtype=torch.float32)


def _reference(x: Tensor, size: int) -> Tensor:
    return reference.pool_grid(x.float(), size)


def _gradient(needed, arguments, kept, grad):
    x, _ = arguments
    return pool_grid_backward(grad, *x.shape[1:3], x.dtype), None


@operator('pool_grid(Tensor x, SymInt size) -> Tensor', _fake, _gradient, _reference)
def pool_grid(x: Tensor, size: int) -> Tensor:
    from .kernels import grid

    return grid.pool_grid(x, size)


def _fake_backward(grad: Tensor, height: int, width: int, dtype: torch.dtype) -> Tensor:
    return grad.new_empty((grad.shape[0], height, width, grad.shape[3]), dtype=dtype)


@operator(
    'pool_grid_backward(Tensor grad, SymInt height, SymInt width, ScalarType dtype) -> Tensor',
    _fake_backward,
)
def pool_grid_backward(grad: Tensor, height: int, width: int, dtype: torch.dtype) -> Tensor:
    from .kernels import grid

    return grid.pool_grid_backward(grad, height, width, dtype)
