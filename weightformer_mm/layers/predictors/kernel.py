"""Predictors of the kernel of a depthwise convolution: ``(B, H, W, C) -> (B, C, k, k)``."""

from __future__ import annotations

from torch import Tensor, nn

from ... import ops
from .registry import KERNEL_PREDICTORS


@KERNEL_PREDICTORS.register('adaptive')
class AdaptivePredictor(nn.Sequential):
    """The published strategy: the map averaged in as many cells as the kernel has taps, then an MLP."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        hidden, _, out = self
        return ops.adaptive_update(x, self.kernel_size, hidden.weight, hidden.bias, out.weight)
