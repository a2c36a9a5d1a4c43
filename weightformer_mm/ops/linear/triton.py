"""Launchers of the products. Matrices come in any layout, and one per image or one for all."""

from __future__ import annotations

import torch
from torch import Tensor

from .._shared.launching import cdiv, launch, next_power_of_two
from .._shared.operators import operator

# Programs that are enough for each of a GPU's 100 to 200 multiprocessors to run one
FEW = 264
LEAST_SHARE = 256  # tokens of a split of a weight's gradient


def linear(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    hidden: Tensor | None = None,
    second: Tensor | None = None,
    gelu: bool = False,
) -> Tensor:
    """Write ``out`` and return it: ``x weight + bias``, and what else is asked for.

    Args:
        x: ``(B, ..., K)``, contiguous.
        weight: ``(B or 1, K, N)`` in any layout.
        out: ``(B, ..., N)``, contiguous, as all maps below.
        bias: ``(N,)``.
        scale: a factor for each image, ``(B,)``.
        residual: added at last.
        hidden: the product is multiplied by ``GELU'(hidden)``.
        second: filled with what comes before GELU, or with ``GELU(hidden)``.
        gelu: apply GELU after the bias.
    """
    from . import kernels

    images, k, n = weight.shape
    batch, tokens = x.shape[0], x.shape[1:-1].numel()
    if images == 1 and scale is None:
        batch, tokens = 1, batch * tokens
    block_n = 128 if n % 128 == 0 else 64
    block_t = 128 if cdiv(tokens, 128) * cdiv(n, block_n) * batch >= FEW else 64
    block_t = min(block_t, max(next_power_of_two(tokens), 16))
    launch(
        kernels.linear_kernel,
        (cdiv(tokens, block_t) * cdiv(n, block_n), batch),
        *(x, weight, bias, scale, residual, hidden, out, second, tokens),
        weight.stride(0) if images > 1 else 0,
        K=k,
        N=n,
        STRIDE_K=weight.stride(1),
        STRIDE_N=weight.stride(2),
        GELU=gelu,
        EXACT=out.dtype == torch.float32,
        BLOCK_T=block_t,
        BLOCK_N=block_n,
        BLOCK_K=64 if k % 64 == 0 else 32,
        num_warps=8 if block_t * block_n > 64 * 128 else 4,
        num_stages=3,
    )
    return out


@operator(
    'linear_hidden_grad(Tensor grad, Tensor weight, Tensor hidden) -> (Tensor, Tensor)',
    lambda grad, weight, hidden: (hidden.new_empty(hidden.shape), hidden.new_empty(hidden.shape)),
)
def hidden_grad(grad: Tensor, weight: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """``GELU'(hidden) * grad weight`` with ``weight (N, D)``, and ``GELU(hidden)``."""
    out, active = hidden.new_empty(hidden.shape), hidden.new_empty(hidden.shape)
    return linear(grad, weight[None], out, hidden=hidden, second=active), active


@operator(
    'linear_input_grad(Tensor grad, Tensor weight) -> Tensor',
    lambda grad, weight: grad.new_empty((*grad.shape[:-1], weight.shape[1])),
)
def input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """``grad weightᵀ`` with ``weight (B or 1, K, N)``."""
    out = grad.new_empty((*grad.shape[:-1], weight.shape[1]))
    return linear(grad, weight.transpose(1, 2), out)


@operator(
    'linear_weight_grad(Tensor left, Tensor right, Tensor weight) -> (Tensor, Tensor)',
    lambda left, right, weight: (
        torch.empty_strided(
            weight.shape, weight.stride(), dtype=torch.float32, device=weight.device
        ),
        right.new_empty(right.shape[-1:], dtype=torch.float32),
    ),
)
def weight_grad(left: Tensor, right: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``leftᵀ right`` in the layout of ``weight``, ``(B or 1, K, N)``, and the sums of ``right``; float32.

    Sums over each share of the tokens, then over the shares; no atomics.
    """
    from . import kernels

    images, k, n = weight.shape
    batch, tokens = left.shape[0], left.shape[1:-1].numel()
    if images == 1:
        batch, tokens = 1, batch * tokens
    block_k, block_n = (64 if k % 128 else 128), (64 if n % 128 else 128)
    tiles = cdiv(k, block_k) * cdiv(n, block_n)
    splits = max(1, min(FEW // max(tiles * batch, 1), cdiv(tokens, LEAST_SHARE)))
    partial = left.new_empty((splits, batch, k * n + n), dtype=torch.float32)
    along_k = weight.stride(2) > weight.stride(1)  # the rows are next to each other
    launch(
        kernels.weight_grad_kernel,
        (tiles, splits, batch),
        *(left, right, partial, tokens, cdiv(tokens, splits)),
        K=k,
        N=n,
        STRIDE_K=1 if along_k else n,
        STRIDE_N=k if along_k else 1,
        BLOCK_T=64,
        BLOCK_K=block_k,
        BLOCK_N=block_n,
        num_warps=8 if block_k * block_n > 64 * 128 else 4,
        num_stages=3,
    )
    total = partial.sum(0) if splits > 1 else partial[0]
    matrix, sums = total[:, : k * n], total[:, k * n :]
    matrix = matrix.view(batch, n, k).transpose(1, 2) if along_k else matrix.view(batch, k, n)
    return matrix, sums.sum(0) if batch > 1 else sums[0]
