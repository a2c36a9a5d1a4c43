from __future__ import annotations

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from .. import ops
from .as_built import built
from .predictors import KERNEL_PREDICTORS


@built
class DynamicDepthwiseConv2d(nn.Module):
    """A depthwise convolution with a static kernel plus one predicted from the image (arXiv 2605.01711).

    The kernel of each channel is ``W0`` plus what the strategy predicts, for the published one
    ``K / (‖K‖₂ + 1)``, the norm over its taps; stride 1, zero padding that keeps the size.

    Args:
        channels: channels of input and output.
        kernel_size: side of the kernel in pixels, odd.
        strategy: how the addition is predicted, a name in `KERNEL_PREDICTORS`.

    ``forward(x, residual=True)`` returns ``x + conv(x)``.

    Shape:
        ``(B, H, W, channels) -> (B, H, W, channels)``.

    Raises:
        ValueError: for an unknown strategy, an even kernel size, or an input of another shape.
    """

    def __init__(self, channels: int, kernel_size: int = 3, strategy: str = 'adaptive'):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f'expected an odd kernel_size, got {kernel_size}')
        self.channels, self.kernel_size, self.strategy = channels, kernel_size, strategy
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(channels))
        for parameter in (self.weight, self.bias):
            trunc_normal_(parameter, std=0.02)
        self.predictor = KERNEL_PREDICTORS.build(
            strategy, channels=channels, kernel_size=kernel_size
        )

    backend = 'auto'

    def forward(self, x: Tensor, residual: bool = False) -> Tensor:
        return ops.depthwise_conv(x, self.kernel(x), self.bias, residual, self.backend)

    def kernel(self, x: Tensor) -> Tensor:
        """That of each image, ``(B, C, 1, k, k)``; ``(1, C, 1, k, k)`` if nothing is predicted."""
        if self.predictor is None:
            return self.weight.unsqueeze(0)
        return self.weight + ops.predict(self.predictor, x).unsqueeze(2)

    def extra_repr(self) -> str:
        return f'{self.channels}, kernel_size={self.kernel_size}, strategy={self.strategy!r}'
