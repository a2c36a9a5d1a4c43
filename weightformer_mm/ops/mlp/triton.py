"""The MLP in half precision with the fewest passes over memory: products that also do what comes after them.

The hidden layer is written once, and once more for the backward pass: both before and after GELU, if one
follows. Matrices come in any layout and one per image or for all; their gradients have the same layout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._shared.half_copies import half
from .._shared.operators import operator
from ..linear.triton import hidden_grad, input_grad, linear, weight_grad
from . import reference


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
    linear(normed, half1, active, bias=bias1, gelu=True, second=hidden if learns else None)
    linear(active, half2.T[None], out, bias=bias2, scale=scale, residual=x.contiguous())
    return out, hidden
