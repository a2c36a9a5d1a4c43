"""The LayerNorm's kernels as a differentiable function, and their launchers."""

from __future__ import annotations

import torch
from torch import Tensor

from .._shared.dispatch import HALF, product_dtype
from .._shared.launching import cdiv, contiguous, launch, next_power_of_two
from .._shared.operators import operator
from . import reference

MOST_CHANNELS = 4096
MOST_TRANSPOSED = 1024  # a tile of which, in float32, fits into a multiprocessor's shared memory
# Elements of a tile and warps of its program; 16 elements per thread
TILE, WARPS = 2048, 4
# Positions of a tile that is transposed: 32 bytes of a half-precision map, a cache sector
TRANSPOSED = 16
# The same of the gradient: 8 elements per thread
GRAD_TILE, GRAD_WARPS, GRAD_PROGRAMS = 2048, 8, 1024


def result_dtype(x: Tensor) -> torch.dtype:
    """That of autocast's products, if they are in half precision."""
    dtype = product_dtype(x)
    return dtype if dtype in HALF else x.dtype


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool, channels_first: bool
) -> Tensor:
    return norm(x, weight, bias, eps, result_dtype(x), gelu, channels_first)


def _empty(x, weight, bias, eps, dtype, gelu, channels_first) -> Tensor:
    batch, height, width, channels = x.shape
    shape = (batch, channels, height, width) if channels_first else x.shape
    return x.new_empty(shape, dtype=dtype)


def _reference(x, weight, bias, eps, dtype, gelu, channels_first) -> Tensor:
    out = reference.layer_norm(x.float(), weight.float(), bias.float(), eps, gelu).to(dtype)
    return out.permute(0, 3, 1, 2) if channels_first else out


def _gradient(needed, arguments, kept, grad):
    x, weight, bias, eps, _, gelu, channels_first = arguments
    grads = norm_grad(grad, None, None, x, weight, bias, eps, gelu, channels_first)
    return (*as_gradients(grads, weight, bias), *[None] * 4)


def as_gradients(grads, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grad, sums = grads
    return grad, sums[0].to(weight.dtype), sums[1].to(bias.dtype)


@operator(
    'layer_norm(Tensor x, Tensor weight, Tensor bias, float eps, ScalarType dtype, bool gelu, '
    'bool channels_first) -> Tensor',
    _empty,
    _gradient,
    _reference,
)
def norm(x, weight, bias, eps, dtype, gelu, channels_first) -> Tensor:
    from . import kernels

    out = _empty(x, weight, bias, eps, dtype, gelu, channels_first)
    channels, pixels = x.shape[3], x.shape[1] * x.shape[2]
    block_c = next_power_of_two(channels)
    block_n = max(TRANSPOSED if channels_first else 1, TILE // block_c)
    launch(
        kernels.layer_norm_kernel,
        (cdiv(pixels, block_n), len(x)),
        *(x.contiguous(), weight.contiguous(), bias.contiguous(), out, pixels, channels, eps),
        GELU=gelu,
        EXACT=dtype == torch.float32,
        CHANNELS_FIRST=channels_first,
        BLOCK_N=block_n,
        BLOCK_C=block_c,
        num_warps=max(WARPS, WARPS * block_n * block_c // (4 * TILE)),
    )
    return out


@operator(
    'layer_norm_grad(Tensor grad_normed, Tensor? grad_x, Tensor? grad_grid, Tensor x, Tensor weight, '
    'Tensor bias, float eps, bool gelu, bool channels_first) -> (Tensor, Tensor)',
    lambda grad_normed, grad_x, grad_grid, x, weight, *others: (
        x.new_empty(x.shape),
        x.new_empty((2, *weight.shape), dtype=torch.float32),
    ),
)
def norm_grad(
    grad_normed, grad_x, grad_grid, x, weight, bias, eps, gelu=False, channels_first=False
) -> tuple[Tensor, Tensor]:
    """Gradients of the input, with ``grad_x`` added, and of weight and bias, ``(2, C)``; no atomics.

    ``grad_grid`` belongs to the means of the output over the cells of a grid.
    """
    inputs = (grad_normed, grad_x, grad_grid, x, weight, bias, eps, gelu, channels_first)
    grad, partial = norm_partial_grad(*inputs)
    return grad, partial.sum(0)


def norm_partial_grad(
    grad_normed, grad_x, grad_grid, x, weight, bias, eps, gelu=False, channels_first=False
) -> tuple[Tensor, Tensor]:
    """The same, with those of weight and bias in parts, ``(parts, 2, C)``."""
    from . import kernels

    batch, height, width, channels = x.shape
    block_c = next_power_of_two(channels)
    block_n = max(1, GRAD_TILE // block_c)
    pixels, most = height * width, cdiv(GRAD_PROGRAMS, max(batch, 1))
    share = cdiv(cdiv(pixels, most), block_n) * block_n
    programs = cdiv(pixels, share) if pixels else 0
    grad = x.new_empty(x.shape)
    partial = x.new_empty((batch * programs, 2, channels), dtype=torch.float32)
    launch(
        kernels.layer_norm_grad_kernel,
        (programs, batch),
        *map(contiguous, (grad_normed, grad_x, grad_grid, x, weight, bias)),
        *(grad, partial, height, width, share, channels, eps),
        SIZE=1 if grad_grid is None else grad_grid.shape[1],
        GELU=gelu,
        EXACT=grad_normed.dtype == torch.float32,
        CHANNELS_FIRST=channels_first,
        BLOCK_N=block_n,
        BLOCK_C=block_c,
        num_warps=GRAD_WARPS,
    )
    return grad, partial
