"""Predicting the weight of a linear layer from all tokens of an image, in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._shared.dispatch import product_dtype


def pool_tokens(x: Tensor) -> Tensor:
    """Average 2x2 windows; ``(B, H, W, C) -> (B, H//2 * W//2, C)``; a side of length 1 is not pooled."""
    height, width = x.shape[1:3]
    rows, columns = pooled_size(height, width)
    covered = x[:, : rows * min(2, height), : columns * min(2, width)]
    windows = covered.unflatten(2, (columns, -1)).unflatten(1, (rows, -1))  # (B, Hp, 2, Wp, 2, C)
    return windows.mean((2, 4)).flatten(1, 2)


def pooled_size(height: int, width: int) -> tuple[int, int]:
    """Sides of the map that `pool_tokens` makes."""
    return max(height // 2, 1), max(width // 2, 1)


def bilateral_update(
    x: Tensor, reduce_weight: Tensor, reduce_bias: Tensor, expand_in: Tensor, expand_out: Tensor
) -> Tensor:
    """``(A E1)ᵀ (D E2) * Cin^-1/2 / N`` with ``A, D`` from the pooled map, as published."""
    hidden = F.silu(F.linear(pool_tokens(x), reduce_weight, reduce_bias))
    left, right = hidden.split([len(expand_in), len(expand_out)], dim=-1)
    num_tokens = x.shape[1] * x.shape[2]
    return token_correlation(left @ expand_in, right @ expand_out, num_tokens) * x.shape[3] ** -0.5


def token_correlation(left: Tensor, right: Tensor, num_tokens: int) -> Tensor:
    """``leftᵀ right / num_tokens``; ``(B, Np, P), (B, Np, Q) -> (B, P, Q)``."""
    return left.transpose(1, 2) @ right / num_tokens


def with_bounded_update(
    update: Tensor, weight: Tensor | float, dim: int | tuple[int, ...]
) -> Tensor:
    """``weight + update / (‖update‖₂ + 1)``, with the norm over ``dim``: the added part is shorter than 1."""
    return weight + update / (torch.linalg.vector_norm(update, dim=dim, keepdim=True) + 1)


def predicted_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x weight + bias`` with one matrix per image."""
    dtype = product_dtype(x)
    tokens = x.flatten(1, 2)  # (B, H * W, Cin)
    out = torch.baddbmm(bias.to(dtype), tokens.to(dtype), weight.to(dtype))
    return out.unflatten(1, x.shape[1:3])  # (B, H, W, Cout)
