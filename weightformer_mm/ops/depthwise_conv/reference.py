"""Depthwise convolution with one kernel per image, in plain PyTorch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def adaptive_update(
    x: Tensor, size: int, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor
) -> Tensor:
    """Average the map in a ``size x size`` grid; each cell's two-layer MLP gives that tap of the kernel."""
    grid = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), size)  # (B, C, k, k)
    return F.conv2d(F.gelu(F.conv2d(grid, hidden_weight, hidden_bias)), out_weight)


def depthwise_conv(x: Tensor, kernel: Tensor, bias: Tensor, residual: bool = False) -> Tensor:
    """Fold the batch into the channel axis: one channels-last depthwise convolution over ``B*C`` channels.

    The innermost axis stays contiguous, which oneDNN runs 3 to 30 times faster than the same convolution
    in NCHW (measured forward and backward, two CPU cores, 8x8x192 to 200x200x64 maps).
    """
    batch, height, width, channels = x.shape
    folded = x.permute(1, 2, 0, 3).reshape(1, height, width, batch * channels)
    kernel = kernel.expand(batch, -1, -1, -1, -1)
    out = F.conv2d(
        folded.permute(0, 3, 1, 2),  # (1, B * C, H, W), channels-last in memory
        kernel.to(x.dtype).flatten(0, 1),  # (B * C, 1, k, k)
        bias.to(x.dtype).repeat(batch),
        padding=kernel.shape[-1] // 2,
        groups=batch * channels,
    )
    out = out.permute(0, 2, 3, 1).reshape(height, width, batch, channels)
    out = out.permute(2, 0, 1, 3)  # (B, H, W, C)
    return x + out if residual else out


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last axis, its parameters in the type of ``x``."""
    return F.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), eps)
