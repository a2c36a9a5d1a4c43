"""Predictors of the kernel of a depthwise convolution: ``(B, H, W, C) -> (B, C, k, k)``.

What they return is added to the static kernel. `adaptive` is published; the exact forms of the others are
this project's own, named after the paper's comparison.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import ops
from ..as_built import as_built, has_geometry
from ..primitives import DepthwiseConv2d
from .registry import KERNEL_PREDICTORS


def bounded(kernel: Tensor, offset: float = 1.0) -> Tensor:
    """``K / (‖K‖₂ + offset)``, the norm over the taps of each channel."""
    return kernel / (torch.linalg.vector_norm(kernel, dim=(-2, -1), keepdim=True) + offset)


def mean_mlp(channels: int, out_channels: int, bias: bool) -> nn.Sequential:
    """A two-layer MLP for the mean over the map."""
    return nn.Sequential(
        nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, out_channels, bias=bias)
    )


@KERNEL_PREDICTORS.register('gap')
class GapPredictor(nn.Module):
    """All taps of each channel from an MLP of the mean over the map: ``C -> C -> C k²``."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.mlp = mean_mlp(channels, channels * kernel_size**2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.mlp(x.mean(dim=(1, 2)))  # (B, C * k²)
        return bounded(taps.unflatten(1, (-1, self.kernel_size, self.kernel_size)))


class _GridMLP(nn.Sequential):
    """The map averaged in as many cells as the kernel has taps, then an MLP: ``K`` before any bound."""

    backend = 'auto'

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        if not self._is_as_built():
            grid = ops.pool_grid(x, self.kernel_size, self.backend)
            return super().forward(grid.permute(0, 3, 1, 2))
        hidden, _, out = self
        return ops.adaptive_update(
            x, self.kernel_size, hidden.weight, hidden.bias, out.weight, self.backend
        )

    def _is_as_built(self) -> bool:
        if len(self) != 3:
            return False
        hidden, activation, out = self
        kept = as_built(hidden, activation) and as_built(out, bias=False)
        return kept and has_geometry(hidden, size=1) and has_geometry(out, size=1)


@KERNEL_PREDICTORS.register('adaptive')
class AdaptivePredictor(_GridMLP):
    """The published strategy: cell ``(i, j)`` of the averaged map gives tap ``(i, j)``."""

    takes_half = True

    def forward(self, x: Tensor) -> Tensor:
        return bounded(super().forward(x))


@KERNEL_PREDICTORS.register('amp_dir')
class AmplitudeDirectionPredictor(nn.Module):
    """Direction from the averaged map, length from its mean: ``Softplus(MLP(mean)) * K / (‖K‖ + 1e-6)``."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.direction = _GridMLP(channels, kernel_size)
        self.amplitude = mean_mlp(channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        amplitude = F.softplus(self.amplitude(x.mean(dim=(1, 2))))  # (B, C)
        return amplitude[..., None, None] * bounded(self.direction(x), offset=1e-6)


@KERNEL_PREDICTORS.register('conv')
class ConvPredictor(nn.Module):
    """As `AdaptivePredictor`, after a depthwise 3x3 convolution of stride 2 and GELU."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.local = DepthwiseConv2d(channels, stride=2)
        self.grid = AdaptivePredictor(channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.grid(F.gelu(self.local(x)))
