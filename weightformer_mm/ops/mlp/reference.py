"""The residual MLP of a block, in plain PyTorch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .._shared.dispatch import is_exporting
from ..predicted_weight.reference import predicted_linear


def residual_mlp(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    scale: Tensor | None = None,
    normed: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """``x + scale * (GELU(LN(x) W1 + b1) W2ᵀ + b2)`` with one ``W1`` for all images, or one per image."""
    if normed is None:
        normed = F.layer_norm(x, norm_weight.shape, norm_weight, norm_bias, eps)
    return x + branch(normed, weight1, bias1, weight2, bias2, scale)


def branch(
    normed: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    scale: Tensor | None,
) -> Tensor:
    """What is added to the residual stream, computed from the LayerNorm's output."""
    if is_exporting():  # the number of matrices may be that of the traced images
        tokens = normed.flatten(1, 2) @ weight1 + bias1
        hidden = tokens.unflatten(1, normed.shape[1:3])
    elif weight1.shape[0] == 1:
        hidden = F.linear(normed, weight1[0].T, bias1)  # (B, H, W, D)
    else:
        hidden = predicted_linear(normed, weight1, bias1)
    out = F.linear(F.gelu(hidden), weight2, bias2)
    return out if scale is None else out * scale.to(out.dtype)[:, None, None, None]
