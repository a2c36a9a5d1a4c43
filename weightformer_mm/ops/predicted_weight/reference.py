"""Predicting the weight of a linear layer from all tokens of an image, in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compat import product_dtype


def pool_tokens(x: Tensor) -> Tensor:
    """Average 2x2 windows; ``(B, H, W, C) -> (B, H//2 * W//2, C)``, a side of length 1 staying as it is."""
    window = (min(2, x.shape[1]), min(2, x.shape[2]))
    pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), window)  # (B, C, Hp, Wp)
    return pooled.permute(0, 2, 3, 1).flatten(1, 2)  # (B, Hp * Wp, C)


def pooled_size(height: int, width: int) -> tuple[int, int]:
    """Sides of the map that `pool_tokens` makes."""
    return max(height // 2, 1), max(width // 2, 1)


def token_correlation(left: Tensor, right: Tensor, num_tokens: int) -> Tensor:
    """``leftᵀ right / num_tokens``; ``(B, Np, P), (B, Np, Q) -> (B, P, Q)``.

    The division comes before the sum, so that no partial sum exceeds the largest product of the inputs.
    """
    return (left / num_tokens).transpose(1, 2) @ right


def bilateral_update(
    x: Tensor, reduce_weight: Tensor, reduce_bias: Tensor, expand_in: Tensor, expand_out: Tensor
) -> Tensor:
    """``(A E1)ᵀ (D E2) * Cin^-1/2 / N`` with ``A, D`` from the pooled map."""
    parameters = reduce_weight, reduce_bias, expand_in, expand_out
    return update_from_pooled(pool_tokens(x), x.shape[1] * x.shape[2], *parameters)


def update_from_pooled(
    pooled: Tensor,
    num_tokens: int,
    reduce_weight: Tensor,
    reduce_bias: Tensor,
    expand_in: Tensor,
    expand_out: Tensor,
) -> Tensor:
    """The product computed as ``E1ᵀ ((Aᵀ D) E2)``.

    For Cout = 4 Cin and r = 4 the multiply-adds that grow with N fall from ``2.0625 N Cin²`` to
    ``0.0625 N Cin²``; those that do not are ``2 Cin³``, in the other order ``4.25 Cin³``.
    """
    hidden = F.silu(F.linear(pooled, reduce_weight, reduce_bias))
    left, right = hidden.split([expand_in.shape[0], expand_out.shape[0]], dim=-1)
    core = token_correlation(left, right, num_tokens)  # (B, Cin//r, Cout//r)
    return expand_in.T @ (core @ expand_out) * expand_in.shape[1] ** -0.5


def with_bounded_update(
    update: Tensor, weight: Tensor | float, dim: int | tuple[int, ...]
) -> Tensor:
    """``weight + update / (‖update‖₂ + 1)``, the norm taken over ``dim``: an update shorter than 1."""
    return weight + update / (torch.linalg.vector_norm(update, dim=dim, keepdim=True) + 1)


def predicted_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x weight + bias`` with one matrix per image."""
    dtype = product_dtype(x)
    tokens = x.flatten(1, 2)  # (B, H * W, Cin)
    out = torch.baddbmm(bias.to(dtype), tokens.to(dtype), weight.to(dtype))
    return out.unflatten(1, x.shape[1:3])  # (B, H, W, Cout)
