"""Depthwise convolution with one kernel per image, and how the kernel is predicted, in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pool_grid(x: Tensor, size: int) -> Tensor:
    """Means over the cells of a grid, ``(B, H, W, C) -> (B, size, size, C)``.

    Cell ``i`` of ``k`` along ``n`` pixels is ``⌊i n / k⌋ ... ⌈(i + 1) n / k⌉ - 1``; cells may share pixels.
    """

    def cells(length: int) -> list[slice]:
        return [slice(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]

    height, width = x.shape[1:3]
    rows = [[x[:, i, j].mean((1, 2)) for j in cells(width)] for i in cells(height)]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def adaptive_update(
    x: Tensor, size: int, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor
) -> Tensor:
    """Two 1x1 convolutions of the grid of means; cell ``(i, j)`` gives tap ``(i, j)``: ``(B, C, k, k)``."""
    grid = pool_grid(x, size).permute(0, 3, 1, 2)
    return F.conv2d(F.gelu(F.conv2d(grid, hidden_weight, hidden_bias)), out_weight)


def depthwise_conv(
    x: Tensor, kernel: Tensor, bias: Tensor, residual: bool = False, dilation: int = 1
) -> Tensor:
    """The sum over all taps of the shifted map times the tap, with zeros outside; plus ``x`` if residual."""
    height, width = x.shape[1:3]
    size = kernel.shape[-1]
    margin = size // 2 * dilation
    padded = F.pad(x, (0, 0, margin, margin, margin, margin))
    out = bias.to(x.dtype).expand_as(x)
    for row in range(size):
        for column in range(size):
            tap = kernel[:, None, None, :, 0, row, column].to(x.dtype)  # (B or 1, 1, 1, C)
            down, right = row * dilation, column * dilation
            out = out + padded[:, down : down + height, right : right + width] * tap
    return x + out if residual else out


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last axis, with its parameters in the type of ``x``."""
    return F.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), eps)
