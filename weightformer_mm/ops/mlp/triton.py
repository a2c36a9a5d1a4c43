"""The MLP in half precision with the fewest passes over memory: products that also do what comes after them.

The hidden layer is written once, and once more for the backward pass: both before and after GELU, if one
follows. Matrices come in any layout and one per image or for all; their gradients have the same layout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._shared.half_copies import half
from .._shared.launching import cdiv, launch
from .._shared.operators import operator
from . import reference

# Programs that are enough for each of a GPU's 100 to 200 multiprocessors to run one
FEW = 264
LEAST_SHARE = 256  # tokens of a split of a weight's gradient


def mlp(
    x: Tensor,
    normed: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    scale: Tensor | None,
) -> Tensor:
    """``x + scale * (GELU(normed W1 + b1) W2ᵀ + b2)`` in the type of ``normed``, which is half precision."""
    halves = (half(weight, normed.dtype) for weight in (weight1, weight2))
    arguments = (x, normed, weight1, bias1, weight2, bias2, scale, *halves)
    return residual_mlp(*arguments, torch.is_grad_enabled())[0]


def _outputs(
    x, normed, weight1, bias1, weight2, bias2, scale, half1, half2, learns
) -> tuple[Tensor, Tensor]:
    hidden = (*x.shape[:3], weight1.shape[2]) if learns else (0,)
    return x.new_empty(x.shape), normed.new_empty(hidden)


def _reference(x, normed, weight1, bias1, weight2, bias2, scale, half1, half2, learns) -> Tensor:
    parameters = (weight.float() for weight in (weight1, bias1, weight2, bias2))
    return x + reference.branch(normed.float(), *parameters, scale).to(x.dtype)


def _gradient(needed, arguments, kept, grad, _):
    x, normed, weight1, bias1, weight2, bias2, scale, half1, half2, _ = arguments
    (hidden,) = kept
    grad = grad.contiguous()
    scaled = grad if scale is None else grad * scale.to(grad.dtype)[:, None, None, None]
    grad_hidden, active = hidden_grad(scaled, half2, hidden)
    grad_weight1, grad_bias1 = weight_grad(normed, grad_hidden, weight1)
    # the transposed product, whose right side is the gradient: its sums are the bias's gradient
    grad_weight2, grad_bias2 = weight_grad(active, scaled, weight2.T[None])
    grad_normed = input_grad(grad_hidden, half1)
    return (
        *(grad, grad_normed, grad_weight1.to(weight1.dtype), grad_bias1.to(bias1.dtype)),
        *(grad_weight2[0].T.to(weight2.dtype), grad_bias2.to(bias2.dtype)),
        *[None] * 4,
    )


@operator(
    'residual_mlp(Tensor x, Tensor normed, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, '
    'Tensor? scale, Tensor half1, Tensor half2, bool learns) -> (Tensor, Tensor)',
    _outputs,
    _gradient,
    _reference,
    keeps=(1,),
)
def residual_mlp(
    x, normed, weight1, bias1, weight2, bias2, scale, half1, half2, learns
) -> tuple[Tensor, Tensor]:
    """The result, and the hidden layer before GELU; without ``learns`` that is empty."""
    normed = normed.contiguous()
    out = x.new_empty(x.shape)
    active = normed.new_empty((*normed.shape[:3], weight1.shape[2]))
    hidden = torch.empty_like(active) if learns else normed.new_empty(0)
    _linear(normed, half1, active, bias=bias1, gelu=True, second=hidden if learns else None)
    _linear(active, half2.T[None], out, bias=bias2, scale=scale, residual=x.contiguous())
    return out, hidden


@operator(
    'hidden_grad(Tensor grad, Tensor weight2, Tensor hidden) -> (Tensor, Tensor)',
    lambda grad, weight2, hidden: (hidden.new_empty(hidden.shape), hidden.new_empty(hidden.shape)),
)
def hidden_grad(grad: Tensor, weight2: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the hidden layer before GELU, and the layer after it."""
    out, active = hidden.new_empty(hidden.shape), hidden.new_empty(hidden.shape)
    return _linear(grad, weight2[None], out, hidden=hidden, second=active), active


@operator(
    'hidden_input_grad(Tensor grad, Tensor weight1) -> Tensor',
    lambda grad, weight1: grad.new_empty((*grad.shape[:3], weight1.shape[1])),
)
def input_grad(grad: Tensor, weight1: Tensor) -> Tensor:
    out = grad.new_empty((*grad.shape[:3], weight1.shape[1]))
    return _linear(grad, weight1.transpose(1, 2), out)


def _linear(
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
    """Write ``out`` and return it; ``weight`` is ``(B or 1, K, N)`` in any layout."""
    from . import kernels

    images, k, n = weight.shape
    batch, tokens = x.shape[0], x.shape[1] * x.shape[2]
    if images == 1 and scale is None:
        batch, tokens = 1, batch * tokens
    block_n = 128 if n % 128 == 0 else 64
    block_t = 128 if cdiv(tokens, 128) * cdiv(n, block_n) * batch >= FEW else 64
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
    'hidden_weight_grad(Tensor left, Tensor right, Tensor weight) -> (Tensor, Tensor)',
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
    batch, tokens = left.shape[0], left.shape[1] * left.shape[2]
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
