"""The Triton kernels as differentiable PyTorch operators, and their launchers, which allocate the outputs.

Triton is imported with the kernels, when one of them first runs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._shared.dispatch import at_least_float32
from .._shared.launching import cdiv, channel_block, launch, next_power_of_two
from .._shared.operators import operator
from . import reference
from .torch import empty_pooled

_POOL_ELEMENTS = 2048  # of the map that is written, per program
_BOUND_BLOCK = {'BLOCK_K': 64, 'BLOCK_M': 32}
# The sum over tokens is split for this many programs, even on GPUs that run fewer at once: where it is split
# determines how it is rounded.
_CORRELATION_PROGRAMS = 512
_MIN_TOKENS_PER_SPLIT = 256


def pool_tokens(x: Tensor) -> Tensor:
    return pool(x, x.dtype)


def bilateral_update(x: Tensor, *parameters: Tensor) -> Tensor:
    """Reads ``x`` as it is; everything after that is float32."""
    return _from_pooled(pool(x, torch.float32), x.shape[1] * x.shape[2], *parameters)


@at_least_float32
def _from_pooled(pooled: Tensor, num_tokens: int, *parameters: Tensor) -> Tensor:
    reduce_weight, reduce_bias, expand_in, expand_out = parameters
    z = F.linear(pooled, reduce_weight, reduce_bias)  # (B, Np, Cin//r + Cout//r)
    core = silu_correlation(z, expand_in.shape[0], num_tokens)  # (B, Cin//r, Cout//r)
    return expand_in.T @ (core @ expand_out) * expand_in.shape[1] ** -0.5


def with_bounded_update(
    update: Tensor, weight: Tensor, dim: int, dtype: torch.dtype | None
) -> Tensor:
    return bounded_update(update, weight, dtype or torch.float32)


def _pool_gradient(needed, arguments, kept, grad):
    x, _ = arguments
    return unpool(grad, x), None


def _reference_pool(x: Tensor, dtype: torch.dtype) -> Tensor:
    return reference.pool_tokens(x.float()).to(dtype)


@operator(
    'pool_tokens(Tensor x, ScalarType dtype) -> Tensor',
    empty_pooled,
    _pool_gradient,
    _reference_pool,
)
def pool(x: Tensor, dtype: torch.dtype) -> Tensor:
    from . import kernels

    batch, height, width, channels = x.shape
    out = empty_pooled(x, dtype)
    block_c = channel_block(channels)
    block_t = _POOL_ELEMENTS // block_c
    launch(
        kernels.pool_kernel,
        (cdiv(out.shape[1], block_t) * cdiv(channels, block_c), batch),
        *(x.contiguous(), out, height, width),
        C=channels,
        WINDOW_H=min(2, height),
        WINDOW_W=min(2, width),
        BLOCK_T=block_t,
        BLOCK_C=block_c,
    )
    return out


@operator(
    'unpool_tokens(Tensor grad, Tensor x) -> Tensor',
    lambda grad, x: x.new_empty(x.shape),
)
def unpool(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of ``x`` from that of its pooled tokens, ``(B, Np, C)``."""
    from . import kernels

    out = x.new_empty(x.shape)
    batch, height, width, channels = x.shape
    block_c = channel_block(channels)
    block_t = _POOL_ELEMENTS // block_c
    launch(
        kernels.unpool_kernel,
        (cdiv(height * width, block_t) * cdiv(channels, block_c), batch),
        *(grad.contiguous(), out, height, width),
        C=channels,
        WINDOW_H=min(2, height),
        WINDOW_W=min(2, width),
        BLOCK_T=block_t,
        BLOCK_C=block_c,
    )
    return out


def _fake_correlation(z: Tensor, left: int, num_tokens: int) -> Tensor:
    return z.new_empty((z.shape[0], left, z.shape[2] - left), dtype=torch.float32)


def _correlation_gradient(needed, arguments, kept, grad):
    z, left, num_tokens = arguments
    return silu_correlation_backward(grad, z, left, num_tokens, 1.0), None, None


def _reference_correlation(z: Tensor, left: int, num_tokens: int) -> Tensor:
    first, second = F.silu(z.float()).split([left, z.shape[2] - left], dim=-1)
    return reference.token_correlation(first, second, num_tokens)


@operator(
    'silu_correlation(Tensor z, SymInt left, SymInt num_tokens) -> Tensor',
    _fake_correlation,
    _correlation_gradient,
    _reference_correlation,
)
def silu_correlation(z: Tensor, left: int, num_tokens: int) -> Tensor:
    """``SiLU(z[..., :left])ᵀ SiLU(z[..., left:]) / num_tokens``; ``(B, Np, P + Q) -> (B, P, Q)``."""
    out = launch_correlation(z, left, 1.0 / num_tokens)
    return out.sum(0) if len(out) > 1 else out[0]


def correlation_splits(batch: int, tokens: int, left: int, right: int) -> int:
    """Into how many parts the sum over tokens is split."""
    tiles = cdiv(left, _block(left)) * cdiv(right, _block(right))
    most = cdiv(_CORRELATION_PROGRAMS, max(tiles * batch, 1))
    return min(most, cdiv(tokens, _MIN_TOKENS_PER_SPLIT))


def launch_correlation(z: Tensor, left: int, scale: float) -> Tensor:
    """``SiLU(z[..., :left])ᵀ SiLU(z[..., left:]) * scale`` of parts of the tokens, ``(splits, B, P, Q)``."""
    from . import kernels

    batch, tokens, width = z.shape
    right = width - left
    block_p, block_q = (_block(side) for side in (left, right))
    splits = correlation_splits(batch, tokens, left, right)
    out = z.new_empty((splits, batch, left, right), dtype=torch.float32)
    launch(
        kernels.correlation_kernel,
        (cdiv(left, block_p) * cdiv(right, block_q), splits, batch),
        *(z.contiguous(), out, tokens, cdiv(tokens, splits), scale),
        P=left,
        Q=right,
        BLOCK_P=block_p,
        BLOCK_Q=block_q,
        BLOCK_T=16,
    )
    return out


@operator(
    'silu_correlation_backward(Tensor grad, Tensor z, SymInt left, SymInt num_tokens, float factor) -> '
    'Tensor',
    lambda grad, z, left, num_tokens, factor: z.new_empty(z.shape),
)
def silu_correlation_backward(
    grad: Tensor, z: Tensor, left: int, num_tokens: int, factor: float
) -> Tensor:
    """The gradient of ``z``, with ``grad`` that of ``factor`` times the correlation."""
    from . import kernels

    batch, tokens, width = z.shape
    out, own = z.new_empty(z.shape), _block(left)
    columns = cdiv(left, own) + cdiv(width - left, own)
    launch(
        kernels.correlation_backward_kernel,
        (cdiv(tokens, 64) * columns, batch),
        *(grad.contiguous(), z.contiguous(), out, tokens, factor / num_tokens),
        P=left,
        Q=width - left,
        BLOCK_T=64,
        BLOCK_OWN=own,
        BLOCK_OTHER=16,
    )
    return out


def _block(size: int) -> int:
    return min(max(next_power_of_two(size), 16), 64)


def _bound_gradient(needed, arguments, kept, grad):
    update, weight, _ = arguments
    grad_update = bounded_update_backward(grad, update) if needed[0] else None
    grad_weight = grad.sum(0, dtype=torch.float32).to(weight.dtype) if needed[1] else None
    return grad_update, grad_weight, None


def _reference_bound(update: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return reference.with_bounded_update(update.float(), weight.float(), dim=1).to(dtype)


@operator(
    'bounded_update(Tensor update, Tensor weight, ScalarType dtype) -> Tensor',
    lambda update, weight, dtype: update.new_empty(update.shape, dtype=dtype),
    _bound_gradient,
    _reference_bound,
)
def bounded_update(update: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """`with_bounded_update` with the norm over axis 1 of ``(B, K, M)``."""
    from . import kernels

    out = update.new_empty(update.shape, dtype=dtype)
    _launch_bound(kernels.bound_kernel, update.contiguous(), weight.contiguous(), out)
    return out


@operator(
    'bounded_update_backward(Tensor grad, Tensor update) -> Tensor',
    lambda grad, update: update.new_empty(update.shape),
)
def bounded_update_backward(grad: Tensor, update: Tensor) -> Tensor:
    from . import kernels

    out = update.new_empty(update.shape)
    _launch_bound(kernels.bound_backward_kernel, grad.contiguous(), update.contiguous(), out)
    return out


def _launch_bound(kernel, first: Tensor, second: Tensor, out: Tensor) -> None:
    batch, k, m = out.shape
    grid = (cdiv(m, _BOUND_BLOCK['BLOCK_M']), batch)
    launch(kernel, grid, first, second, out, K=k, M=m, **_BOUND_BLOCK)
