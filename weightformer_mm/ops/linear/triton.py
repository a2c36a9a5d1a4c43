"""Launchers of the products. Matrices come in any layout, and one per image or one for all."""

from __future__ import annotations

import torch
from torch import Tensor

from .._shared.dispatch import HALF
from .._shared.launching import cdiv, contiguous, launch
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
    # registers of GPUs before Hopper do not hold a second map beside a wide tile
    in_half = x.dtype in HALF
    block_n = 128 if n % 128 == 0 and in_half and second is None else 64
    many = cdiv(tokens, 128) * cdiv(n, block_n) * batch >= FEW
    block_t = 128 if many and in_half else 64
    launch(
        kernels.linear_kernel,
        (cdiv(tokens, block_t) * cdiv(n, block_n), batch),
        *(x, weight, contiguous(bias), contiguous(scale), residual, hidden, out, second, tokens),
        IMAGE_STRIDE=weight.stride(0) if images > 1 else 0,
        K=k,
        N=n,
        STRIDE_K=weight.stride(1),
        STRIDE_N=weight.stride(2),
        GELU=gelu,
        EXACT=out.dtype == torch.float32,
        BLOCK_T=block_t,
        BLOCK_N=block_n,
        BLOCK_K=64 if k % 64 == 0 and in_half else 32,
        num_warps=8 if block_t * block_n >= 64 * 128 or not in_half else 4,
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


def weight_grad(left: Tensor, right: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``leftᵀ right`` in the layout of ``weight``, ``(B or 1, K, N)``, and the sums of ``right``; float32."""
    _, k, n = weight.shape
    matrix, sums = summed_products(left, right, weight, None, None).split([k * n, n], dim=1)
    return _in_layout(matrix, weight), over_images(sums)


def weight_grads(
    normed: Tensor, grad_hidden: Tensor, grad: Tensor, active: Tensor, weight1: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of an MLP's matrices, ``(B or 1, C, D)`` and ``(C, D)``, each with its bias's; float32."""
    _, k, n = weight1.shape
    total = summed_products(normed, grad_hidden, weight1, grad, active)
    first, bias1, second, bias2 = total.split([k * n, n, k * n, k], dim=1)
    others = (over_images(bias1), over_images(second).view(k, n), over_images(bias2))
    return _in_layout(first, weight1), *others


def _width(weight: Tensor, twice: bool) -> int:
    _, k, n = weight.shape
    return k * n + n + (k * n + k if twice else 0)


@operator(
    'linear_weight_grad(Tensor left, Tensor right, Tensor weight, Tensor? left2, Tensor? right2) -> Tensor',
    lambda left, right, weight, left2, right2: left.new_empty(
        (len(weight), _width(weight, left2 is not None)), dtype=torch.float32
    ),
)
def summed_products(
    left: Tensor, right: Tensor, weight: Tensor, left2: Tensor | None, right2: Tensor | None
) -> Tensor:
    """For each matrix of ``weight (B or 1, K, N)``: ``leftᵀ right`` in its layout, and the sums of ``right``.

    Then ``left2ᵀ right2`` and the sums of ``left2``, if given. Sums over each share of the tokens, then over
    the shares; no atomics.
    """
    from . import kernels

    images, k, n = weight.shape
    batch, tokens = left.shape[0], left.shape[1:-1].numel()
    if images == 1:
        batch, tokens = 1, batch * tokens
    jobs, in_half = 1 if left2 is None else 2, left.dtype in HALF
    block_k, block_n = (128 if in_half and size % 128 == 0 else 64 for size in (k, n))
    tiles = jobs * cdiv(k, block_k) * cdiv(n, block_n)
    most = FEW // max(tiles * batch, 1)
    # two halves of each tile take the multiprocessors as long as the whole tiles, and need a sum
    splits = 1 if most == 2 else max(1, min(most, cdiv(tokens, LEAST_SHARE)))
    width = _width(weight, left2 is not None)
    partial = left.new_empty((splits, batch, width), dtype=torch.float32)
    along_k = _runs_along_k(weight)
    launch(
        kernels.weight_grad_kernel,
        (tiles, splits, batch),
        *map(contiguous, (left, right, left2, right2)),
        *(partial, tokens, cdiv(tokens, splits)),
        K=k,
        N=n,
        STRIDE_K=1 if along_k else n,
        STRIDE_N=k if along_k else 1,
        WIDTH=width,
        BLOCK_T=64,
        BLOCK_K=block_k,
        BLOCK_N=block_n,
        num_warps=8 if block_k * block_n > 64 * 128 else 4,
        num_stages=3,
    )
    return partial.sum(0) if splits > 1 else partial[0]


def _runs_along_k(weight: Tensor) -> bool:
    """Whether elements along K are neighbours in ``(B or 1, K, N)``, as ``nn.Linear`` keeps its weight."""
    return weight.stride(2) > weight.stride(1)


def _in_layout(flat: Tensor, weight: Tensor) -> Tensor:
    _, k, n = weight.shape
    if _runs_along_k(weight):
        return flat.view(len(flat), n, k).transpose(1, 2)
    return flat.view(len(flat), k, n)


def over_images(values: Tensor) -> Tensor:
    """The sum over axis 0, which launches nothing for one image."""
    return values[0] if len(values) == 1 else values.sum(0)
