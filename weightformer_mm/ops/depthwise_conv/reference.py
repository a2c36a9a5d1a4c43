"""Depthwise convolution with one kernel per image, in plain PyTorch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def adaptive_update(
    x: Tensor, size: int, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor
) -> Tensor:
    """Average the map in a ``size x size`` grid; each cell's two-layer MLP gives that tap of the kernel."""
    return update_from_grid(pool_grid(x, size), hidden_weight, hidden_bias, out_weight)


def pool_grid(x: Tensor, size: int) -> Tensor:
    """Means over the cells of a grid; ``(B, H, W, C) -> (B, size, size, C)``."""
    return F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def update_from_grid(
    grid: Tensor, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor
) -> Tensor:
    """The two 1x1 convolutions on the grid; ``(B, k, k, C) -> (B, C, k, k)``."""
    hidden = F.gelu(F.linear(grid, hidden_weight.flatten(1), hidden_bias))
    return F.linear(hidden, out_weight.flatten(1)).permute(0, 3, 1, 2)


def depthwise_conv(x: Tensor, kernel: Tensor, bias: Tensor, residual: bool = False) -> Tensor:
    """The sum of the shifted map's products with each tap, zeros outside; ``[x +]`` in front."""
    height, width = x.shape[1:3]
    size = kernel.shape[-1]
    padded = F.pad(x, (0, 0, size // 2, size // 2, size // 2, size // 2))
    out = bias.to(x.dtype).expand_as(x)
    for row in range(size):
        for column in range(size):
            tap = kernel[:, None, None, :, 0, row, column].to(x.dtype)  # (B or 1, 1, 1, C)
            out = out + padded[:, row : row + height, column : column + width] * tap
    return x + out if residual else out


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last axis, its parameters in the type of ``x``."""
    return F.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), eps)
