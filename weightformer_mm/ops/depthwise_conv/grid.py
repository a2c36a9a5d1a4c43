"""The Triton means over a coarse grid as a differentiable operator, and the kernel predicted with it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators import operator
from ..precision import at_least_float32
from . import reference

# Triton is imported with the kernels, when one of them first runs.

_update_from_grid = at_least_float32(reference.update_from_grid)


def adaptive_update(
    x: Tensor, size: int, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor
) -> Tensor:
    """The same as the reference; ``x`` is read as it is, and all after it is float32."""
    return _update_from_grid(pool_grid(x, size), hidden_weight, hidden_bias, out_weight)


def _fake(x: Tensor, size: int) -> Tensor:
    return x.new_empty((x.shape[0], size, size, x.shape[3]), dtype=torch.float32)


def _save(ctx, inputs, output) -> None:
    x, _ = inputs
    ctx.size, ctx.dtype = x.shape[1:3], x.dtype


def _differentiate(ctx, grad: Tensor):
    return pool_grid_backward(grad, *ctx.size, ctx.dtype), None


@operator('pool_grid(Tensor x, SymInt size) -> Tensor', _fake, _save, _differentiate)
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
