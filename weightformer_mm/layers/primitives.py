"""Standard layers with the published initialisation and epsilon, for channels-last maps."""

from __future__ import annotations

import torch.nn.functional as F
from timm import layers as timm_layers
from timm.layers import trunc_normal_
from torch import Tensor, nn

from .. import ops
from .as_built import built, has_geometry


def norm_eps() -> float:
    """Of every LayerNorm, as published.

    A literal in a function: ``torch.compile(dynamic=True)`` takes floats that it reads from globals and
    attributes for ones that vary, finds out that they do not, and compiles a second time.
    """
    return 1e-6


@built
class LayerNorm(nn.LayerNorm):
    """LayerNorm over the channels with the published epsilon, 1e-6, whatever ``eps`` is set to later."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=norm_eps())

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, norm_eps())


@built
class DropPath(timm_layers.DropPath):
    """timm's stochastic depth with a rate that ``torch.compile`` takes for a constant, see `norm_eps`."""

    @property
    def drop_prob(self) -> float:
        numerator, denominator = self._ratio
        return numerator / denominator

    @drop_prob.setter
    def drop_prob(self, rate: float) -> None:
        self._ratio = float(rate).as_integer_ratio()


@built
class Linear(nn.Linear):
    """Linear layer initialised as published: weight from a truncated normal of std 0.02, bias zero."""

    def reset_parameters(self) -> None:
        trunc_normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` on channels-last maps, ``(B, H, W, C) -> (B, H', W', C')``; PyTorch's initialisation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@built
class DepthwiseConv2d(Conv2d):
    """Depthwise 3x3 convolution, ``(B, H, W, C) -> (B, ceil(H/stride), ceil(W/stride), C)``.

    With stride 1, ``forward(x, residual=True)`` returns ``x + conv(x)``.
    """

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, channels, 3, stride, padding=1, groups=channels)

    backend = 'auto'

    def forward(self, x: Tensor, residual: bool = False) -> Tensor:
        if not residual:
            return super().forward(x)
        if self.stride != (1, 1):
            raise ValueError(f'expected stride 1 with residual=True, got {self.stride}')
        if not self.keeps_form():
            return x + super().forward(x)
        return ops.depthwise_conv(x, self.kernel(x), self.bias, residual, self.backend)

    def keeps_form(self) -> bool:
        """Whether nobody has dilated it since, or changed its padding."""
        return has_geometry(self, 3, self.stride[0], padding=1, groups=self.in_channels)

    def kernel(self, x: Tensor) -> Tensor:
        """That of all images, ``(1, C, 1, 3, 3)``."""
        return self.weight.unsqueeze(0)
