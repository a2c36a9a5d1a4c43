"""The two residual blocks of the networks: depthwise convolution, then MLP (arXiv 2605.01711)."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from .dynamic_depthwise_conv import DynamicDepthwiseConv2d
from .dynamic_linear import DynamicLinear
from .primitives import DepthwiseConv2d, LayerNorm, Linear

MLP_RATIO = 4


class _Block(nn.Module):
    """Convolution and MLP with their residuals; what the convolution and FC1 are is the subclass's choice."""

    def __init__(
        self,
        dwc: nn.Module,
        linear1: nn.Module,
        channels: int,
        drop_rate: float,
        drop_path_rate: float,
    ):
        super().__init__()
        self.dwc = dwc
        self.norm2 = LayerNorm(channels)
        self.linear1 = linear1
        self.linear2 = Linear(MLP_RATIO * channels, channels)
        self.drop = nn.Dropout(drop_rate)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dwc(x)
        hidden = self.drop(F.gelu(self.linear1(self.norm2(x))))  # (B, H, W, 4 * C)
        return x + self.drop_path(self.drop(self.linear2(hidden)))


class StaticBlock(_Block):
    """``x = x + DWConv(x)``, then ``x = x + DropPath(FC2(GELU(FC1(LN(x)))))``; parameters as learned.

    Args:
        channels: channels of input and output.
        drop_rate: dropout after GELU and after FC2.
        drop_path_rate: stochastic depth of the MLP branch; the convolution branch has none, as published.

    Shape:
        ``(B, H, W, channels) -> (B, H, W, channels)``.
    """

    def __init__(self, channels: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0):
        super().__init__(
            DepthwiseConv2d(channels),
            Linear(channels, MLP_RATIO * channels),
            channels,
            drop_rate,
            drop_path_rate,
        )


class DynamicBlock(_Block):
    """The static block with a predicted convolution kernel and a predicted FC1 weight.

    A LayerNorm comes first and *replaces* the residual stream, as published. FC2 stays static.

    Args:
        channels: channels of input and output.
        drop_rate: dropout after GELU and after FC2.
        drop_path_rate: stochastic depth of the MLP branch.
        dynamic_linear: strategy of the `DynamicLinear`.
        dynamic_conv: strategy of the `DynamicDepthwiseConv2d`.

    Shape:
        ``(B, H, W, channels) -> (B, H, W, channels)``.

    Raises:
        ValueError: for an unknown strategy.
    """

    def __init__(
        self,
        channels: int,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        dynamic_linear: str = 'bilateral',
        dynamic_conv: str = 'adaptive',
    ):
        super().__init__(
            DynamicDepthwiseConv2d(channels, strategy=dynamic_conv),
            DynamicLinear(channels, MLP_RATIO * channels, strategy=dynamic_linear),
            channels,
            drop_rate,
            drop_path_rate,
        )
        self.norm1 = LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm1(x))
