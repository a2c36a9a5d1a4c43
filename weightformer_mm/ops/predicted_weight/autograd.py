"""The Triton kernels as differentiable operators, and what is computed with them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import operator
from ..precision import at_least_float32
from . import reference

# Triton is imported with the kernels, when one of them first runs.


def bilateral_update(
    x: Tensor, reduce_weight: Tensor, reduce_bias: Tensor, expand_in: Tensor, expand_out: Tensor
) -> Tensor:
    """The same as the reference; ``x`` is read as it is, and all after it is float32."""
    num_tokens = x.shape[1] * x.shape[2]
    pooled = pool_tokens(x, torch.float32)
    return _from_pooled(pooled, num_tokens, reduce_weight, reduce_bias, expand_in, expand_out)


def with_bounded_update(
    update: Tensor, weight: Tensor, dim: int | tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    """The same as the reference, in ``dtype``."""
    normed = [axis % update.ndim for axis in ((dim,) if isinstance(dim, int) else dim)]
    order = [0, *normed, *(axis for axis in range(1, update.ndim) if axis not in normed)]
    update = update.permute(order)  # (B, *normed, *others): as it was for dim=1 of (B, Cin, Cout)
    static = weight.permute([axis - 1 for axis in order[1:]])
    length = math.prod(update.shape[1 : len(normed) + 1])
    rest = math.prod(update.shape[len(normed) + 1 :])
    result = bounded_update(
        update.reshape(len(update), length, rest), static.reshape(length, rest), dtype
    )
    return result.view(update.shape).permute(sorted(range(update.ndim), key=order.__getitem__))


@at_least_float32
def _from_pooled(
    pooled: Tensor,
    num_tokens: int,
    reduce_weight: Tensor,
    reduce_bias: Tensor,
    expand_in: Tensor,
    expand_out: Tensor,
) -> Tensor:
    z = F.linear(pooled, reduce_weight, reduce_bias)  # (B, Np, Cin//r + Cout//r)
    core = silu_correlation(z, expand_in.shape[0], num_tokens)  # (B, Cin//r, Cout//r)
    return expand_in.T @ (core @ expand_out) * expand_in.shape[1] ** -0.5


def _fake_pool(x: Tensor, dtype: torch.dtype) -> Tensor:
    batch, height, width, channels = x.shape
    tokens = math.prod(reference.pooled_size(height, width))
    return x.new_empty((batch, tokens, channels), dtype=dtype)


def _pool_gradient(needed, arguments, kept, grad: Tensor):
    x, _ = arguments
    return pool_tokens_backward(grad, *x.shape[1:3], x.dtype), None


def _reference_pool(x: Tensor, dtype: torch.dtype) -> Tensor:
    return reference.pool_tokens(x.float()).to(dtype)


@operator(
    'pool_tokens(Tensor x, ScalarType dtype) -> Tensor', _fake_pool, _pool_gradient, _reference_pool
)
def pool_tokens(x: Tensor, dtype: torch.dtype) -> Tensor:
    from . import kernels

    return kernels.pool_tokens(x, dtype)


def _fake_pool_backward(grad: Tensor, height: int, width: int, dtype: torch.dtype) -> Tensor:
    return grad.new_empty((grad.shape[0], height, width, grad.shape[2]), dtype=dtype)


@operator(
    'pool_tokens_backward(Tensor grad, SymInt height, SymInt width, ScalarType dtype) -> Tensor',
    _fake_pool_backward,
)
def pool_tokens_backward(grad: Tensor, height: int, width: int, dtype: torch.dtype) -> Tensor:
    from . import kernels

    return kernels.pool_tokens_backward(grad, height, width, dtype)


def _fake_correlation(z: Tensor, left: int, num_tokens: int) -> Tensor:
    return z.new_empty((z.shape[0], left, z.shape[2] - left), dtype=torch.float32)


def _correlation_gradient(needed, arguments, kept, grad: Tensor):
    z, left, num_tokens = arguments
    return silu_correlation_backward(grad, z, left, num_tokens), None, None


def _reference_correlation(z: Tensor, left: int, num_tokens: int) -> Tensor:
    halves = F.silu(z.float()).split([left, z.shape[2] - left], dim=-1)
    return reference.token_correlation(*halves, num_tokens)


@operator(
    'silu_correlation(Tensor z, SymInt left, SymInt num_tokens) -> Tensor',
    _fake_correlation,
    _correlation_gradient,
    _reference_correlation,
)
def silu_correlation(z: Tensor, left: int, num_tokens: int) -> Tensor:
    from . import kernels

    return kernels.silu_correlation(z, left, num_tokens)


def _fake_correlation_backward(grad: Tensor, z: Tensor, left: int, num_tokens: int) -> Tensor:
    return z.new_empty(z.shape)


@operator(
    'silu_correlation_backward(Tensor grad, Tensor z, SymInt left, SymInt num_tokens) -> Tensor',
    _fake_correlation_backward,
)
def silu_correlation_backward(grad: Tensor, z: Tensor, left: int, num_tokens: int) -> Tensor:
    from . import kernels

    return kernels.silu_correlation_backward(grad, z, left, num_tokens)


def _fake_bound(update: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return update.new_empty(update.shape, dtype=dtype)


def _bound_gradient(needed, arguments, kept, grad: Tensor):
    update, weight, _ = arguments
    grad_update = bounded_update_backward(grad, update) if needed[0] else None
    grad_weight = grad.sum(0, dtype=torch.float32).to(weight.dtype) if needed[1] else None
    return grad_update, grad_weight, None


def _reference_bound(update: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return reference.with_bounded_update(update.float(), weight.float(), dim=1).to(dtype)


@operator(
    'bounded_update(Tensor update, Tensor weight, ScalarType dtype) -> Tensor',
    _fake_bound,
    _bound_gradient,
    _reference_bound,
)
def bounded_update(update: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    from . import kernels

    return kernels.bounded_update(update, weight, dtype)


def _fake_bound_backward(grad: Tensor, update: Tensor) -> Tensor:
    return update.new_empty(update.shape)


@operator('bounded_update_backward(Tensor grad, Tensor update) -> Tensor', _fake_bound_backward)
def bounded_update_backward(grad: Tensor, update: Tensor) -> Tensor:
    from . import kernels

    return kernels.bounded_update_backward(grad, update)
