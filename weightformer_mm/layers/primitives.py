"""Standard layers with the published initialisation and epsilon, for channels-last maps."""

from __future__ import annotations

import torch.nn.functional as F
from timm import layers as timm_layers
from timm.layers import trunc_normal_
from torch import Tensor, nn

from ..ops._shared.half_copies import copies_of
from .fused import built


@built
class LayerNorm(nn.LayerNorm):
    """LayerNorm over the channels with the published epsilon, whatever ``eps`` is set to later."""

    backend = 'auto'

    def __init__(self, channels: int):
        super().__init__(channels, eps=self.published_eps())

    @staticmethod
    def published_eps() -> float:
        """1e-6, as a literal in a function.

        ``torch.compile(dynamic=True)`` assumes that floats from globals and attributes vary, finds out that
        they do not, and compiles a second time.
        """
        return 1e-6

    def forward(self, x: Tensor) -> Tensor:
        eps = self.published_eps()
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, eps)


@built
class DropPath(timm_layers.DropPath):
    """timm's stochastic depth; ``torch.compile`` treats its rate as a constant, see `LayerNorm`."""

    @property
    def drop_prob(self) -> float:
        numerator, denominator = self._ratio
        return numerator / denominator

    @drop_prob.setter
    def drop_prob(self, rate: float) -> None:
        self._ratio = float(rate).as_integer_ratio()


class Linear(nn.Linear):
    """Linear layer initialised as published: weight from a truncated normal of std 0.02, bias zero.

    Once built it is an ``nn.Linear``: counters and quantisers look modules up by their exact class.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__(in_features, out_features, bias)
        if type(self) is Linear:
            self.__class__ = nn.Linear  # type: ignore[assignment]

    def reset_parameters(self) -> None:
        trunc_normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


@built
class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` on channels-last maps, ``(B, H, W, C) -> (B, H', W', C')``; PyTorch's initialisation."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if bias is not None and x.dtype != weight.dtype:
            weight, bias = copies_of(weight, bias)
        return self._conv_forward(x.permute(0, 3, 1, 2), weight, bias).permute(0, 2, 3, 1)


@built
class DepthwiseConv2d(Conv2d):
    """Depthwise 3x3 convolution, ``(B, H, W, C) -> (B, ceil(H/stride), ceil(W/stride), C)``."""

    backend = 'auto'

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, channels, 3, stride, padding=1, groups=channels)

    def kernel(self, x: Tensor) -> Tensor:
        """The kernel for all images, ``(1, C, 1, 3, 3)``."""
        return self.weight.unsqueeze(0)
