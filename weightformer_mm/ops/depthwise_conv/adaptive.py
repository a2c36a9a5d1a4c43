"""Triton's form of the ``adaptive`` strategy: the grid comes with the LayerNorm before it.

The grid's gradient is spread over the map in the LayerNorm's backward pass: no map is read or written for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._shared.launching import cdiv, channel_block, launch, next_power_of_two
from .._shared.operators import operator
from ..layer_norm.triton import TILE, WARPS, as_gradients, norm_grad
from ..linear.triton import input_grad, linear, over_images, weight_grads
from ..predicted_weight.reference import with_bounded_update
from . import reference
from .torch import empty_grid, update_from_grid

GRID_TILE = 2048  # elements of a tile of the grid's kernels
# Parts of rows that are enough for a GPU's 100 to 200 multiprocessors, and the fewest pixels of one
PARTS, LEAST_PART = 1024, 32
MOST_CELLS = 4  # along a side, of those whose sums a program holds
TAPS_BLOCK = {'BLOCK_T': 16, 'BLOCK_C': 32, 'BLOCK_K': 32}


def launch_means(sums: Tensor, out: Tensor, height: int, width: int, parts: int) -> None:
    """Means over the cells of a grid, ``out (B, size, size, C)``, from sums over parts of their rows."""
    from . import kernels

    batch, size, _, channels = out.shape
    block_c = channel_block(channels)
    launch(
        kernels.cell_means_kernel,
        (cdiv(channels, block_c), size * size, batch),
        *(sums, out, height, width, parts),
        C=channels,
        SIZE=size,
        BLOCK_H=GRID_TILE // block_c,
        BLOCK_C=block_c,
    )


def _norm_outputs(x, weight, bias, eps, dtype, size) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=dtype), empty_grid(x, size, torch.float32)


def _norm_reference(x, weight, bias, eps, dtype, size) -> tuple[Tensor, Tensor]:
    out = reference.layer_norm(x.float(), weight.float(), bias.float(), eps)
    return out.to(dtype), reference.pool_grid(out, size)


def _norm_gradient(needed, arguments, kept, grad, grad_grid):
    x, weight, bias, eps, dtype, _ = arguments
    grad = x.new_zeros(x.shape, dtype=dtype) if grad is None else grad
    grads = norm_grad(grad, None, grad_grid, x, weight, bias, eps, False, False)
    return *as_gradients(grads, weight, bias), None, None, None


@operator(
    'layer_norm_and_grid(Tensor x, Tensor weight, Tensor bias, float eps, ScalarType dtype, SymInt size) -> '
    '(Tensor, Tensor)',
    _norm_outputs,
    _norm_gradient,
    _norm_reference,
)
def norm_and_grid(x, weight, bias, eps, dtype, size) -> tuple[Tensor, Tensor]:
    """The LayerNorm in ``dtype``, and its means over ``size x size`` cells, at most 4, in float32."""
    from ..layer_norm import kernels

    normed, grid = _norm_outputs(x, weight, bias, eps, dtype, size)
    batch, height, width, channels = x.shape
    block_c = next_power_of_two(channels)
    block_n = max(1, TILE // block_c)
    share = max(cdiv(batch * height * width, PARTS), LEAST_PART)
    share = min(cdiv(share, block_n), cdiv(width, block_n)) * block_n
    parts = cdiv(width, share) if share else 0
    sums = x.new_empty((batch, height, parts, size, channels), dtype=torch.float32)
    launch(
        kernels.norm_sums_kernel,
        (batch * height * parts,),
        *(x.contiguous(), weight.contiguous(), bias.contiguous(), normed, sums),
        *(width, share, parts, channels, eps),
        SIZE=size,
        BLOCK_N=block_n,
        BLOCK_C=block_c,
        num_warps=WARPS,
    )
    launch_means(sums, grid, height, width, parts)
    return normed, grid


def _kernel_outputs(grid, hidden_weight, hidden_bias, out_weight, weight):
    images, size, _, channels = grid.shape
    taps = (images, channels, 1, size, size)
    return (
        grid.new_empty(taps),
        grid.new_empty(taps),
        *(grid.new_empty((images, size * size, channels)) for _ in range(2)),
    )


def _kernel_reference(grid, hidden_weight, hidden_bias, out_weight, weight) -> Tensor:
    update = update_from_grid(grid, hidden_weight, hidden_bias, out_weight).unsqueeze(2)
    return with_bounded_update(update, weight.to(grid.dtype), dim=(-2, -1))


def _kernel_gradient(needed, arguments, kept, grad, *_):
    grid, hidden_weight, hidden_bias, out_weight, weight = arguments
    update, before, after = kept
    tokens = grid.flatten(1, 2)
    into = hidden_weight.flatten(1)  # (C, C)
    grad_update, grad_before = bounded_taps_grad(grad, update, out_weight, before)
    products = (tokens, grad_before, grad_update, after)
    grad_into, grad_bias, grad_out, _ = weight_grads(*products, into.T[None])
    grad_grid = input_grad(grad_before, into.T[None])
    return (
        grad_grid.view_as(grid),
        grad_into[0].T.reshape(hidden_weight.shape).to(hidden_weight.dtype),
        grad_bias.to(hidden_bias.dtype),
        grad_out.view(out_weight.shape).to(out_weight.dtype),
        over_images(grad).to(weight.dtype),
    )


@operator(
    'adaptive_kernel(Tensor grid, Tensor hidden_weight, Tensor hidden_bias, Tensor out_weight, '
    'Tensor weight) -> (Tensor, Tensor, Tensor, Tensor)',
    _kernel_outputs,
    _kernel_gradient,
    _kernel_reference,
    keeps=(1, 2, 3),
)
def adaptive_kernel(
    grid, hidden_weight, hidden_bias, out_weight, weight
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each image's kernel ``(B, C, 1, k, k)``; its update, not bounded; the layer before and after GELU."""
    from . import adaptive_kernels as kernels

    kernel, update, before, after = _kernel_outputs(
        grid, hidden_weight, hidden_bias, out_weight, weight
    )
    images, taps, channels = before.shape
    into = hidden_weight.flatten(1).T[None]
    linear(grid.contiguous(), into, after, bias=hidden_bias, second=before, gelu=True)
    launch(
        kernels.bounded_taps_kernel,
        (cdiv(channels, TAPS_BLOCK['BLOCK_C']), images),
        *(after, out_weight.contiguous(), weight.contiguous(), update, kernel),
        C=channels,
        T=taps,
        **TAPS_BLOCK,
    )
    return kernel, update, before, after


@operator(
    'adaptive_taps_grad(Tensor grad, Tensor update, Tensor out_weight, Tensor before) -> (Tensor, Tensor)',
    lambda grad, update, out_weight, before: (
        before.new_empty(before.shape),
        before.new_empty(before.shape),
    ),
)
def bounded_taps_grad(
    grad: Tensor, update: Tensor, out_weight: Tensor, before: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the update and of the layer before GELU, both ``(B, k * k, C)``."""
    from . import adaptive_kernels as kernels

    images, taps, channels = before.shape
    out = before.new_empty(before.shape), before.new_empty(before.shape)
    launch(
        kernels.bounded_taps_grad_kernel,
        (cdiv(channels, TAPS_BLOCK['BLOCK_C']), images),
        *(grad.contiguous(), update, out_weight.contiguous(), before, *out),
        C=channels,
        T=taps,
        **TAPS_BLOCK,
    )
    return out
