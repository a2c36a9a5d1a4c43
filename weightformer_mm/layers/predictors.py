"""The other prediction strategies: names from the paper's comparison, exact forms this project's own.

For a linear layer they predict an update of its weight, ``(B, H, W, Cin) -> (B, Cin, Cout)``, not yet
bounded; ``P`` are the tokens after 2x2 average pooling, ``N`` is their number before it. For a depthwise
convolution they predict what is added to its kernel, ``(B, H, W, C) -> (B, C, k, k)``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .dynamic import AdaptivePredictor, BilateralPredictor, GridMLP, bounded
from .fused import as_built
from .primitives import DepthwiseConv2d, Linear
from .registry import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

GAP_RANK = 8


@WEIGHT_PREDICTORS.register('gap')
class GapWeight(nn.Module):
    """A rank-8 product of two linear maps of the mean over all tokens: ``dW = Uᵀ V / 8``."""

    def __init__(self, in_features: int, out_features: int, reduction: int):
        super().__init__()
        self.to_in = Linear(in_features, GAP_RANK * in_features)
        self.to_out = Linear(in_features, GAP_RANK * out_features)

    def forward(self, x: Tensor) -> Tensor:
        context = x.mean(dim=(1, 2))  # (B, Cin)
        left, right = (
            to(context).unflatten(1, (GAP_RANK, -1))  # (B, 8 * C) -> (B, 8, C)
            for to in (self.to_in, self.to_out)
        )
        return ops.token_correlation(left, right, GAP_RANK)


@WEIGHT_PREDICTORS.register('linear')
class LinearWeight(nn.Module):
    """The correlation of two linear maps of all tokens: ``dW = (P Wa)ᵀ (P Wb) * Cin^-1/2 / N``."""

    backend = 'auto'

    def __init__(self, in_features: int, out_features: int, reduction: int):
        super().__init__()
        self.to_in = Linear(in_features, in_features, bias=False)
        self.to_out = Linear(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = ops.pool_tokens(x, self.backend)
        if not as_built(self.to_in, self.to_out, bias=False):
            return self.correlated(x, self.to_in(tokens), self.to_out(tokens))
        # computed as Waᵀ (Pᵀ P) Wb: no intermediate has the size of a wider map
        core = ops.token_correlation(tokens, tokens, x.shape[1] * x.shape[2])  # (B, Cin, Cin)
        return self.to_in.weight @ core @ self.to_out.weight.T * x.shape[3] ** -0.5

    def correlated(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """``leftᵀ right * Cin^-1/2 / N`` of two maps of the tokens of ``x``."""
        return ops.token_correlation(left, right, x.shape[1] * x.shape[2]) * x.shape[3] ** -0.5


@WEIGHT_PREDICTORS.register('nonlinear')
class NonlinearWeight(LinearWeight):
    """Like `LinearWeight`, with SiLU on both maps: ``dW = SiLU(P Wa)ᵀ SiLU(P Wb) * Cin^-1/2 / N``."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = ops.pool_tokens(x, self.backend)
        return self.correlated(x, F.silu(self.to_in(tokens)), F.silu(self.to_out(tokens)))


WEIGHT_PREDICTORS.register('bilateral')(BilateralPredictor)


@WEIGHT_PREDICTORS.register('deep')
class DeepWeight(BilateralPredictor):
    """Like `BilateralPredictor`, with a second hidden layer of the same width (Linear, SiLU) on each side."""

    def __init__(self, in_features: int, out_features: int, reduction: int):
        super().__init__(in_features, out_features, reduction)
        self.in_hidden = Linear(in_features // reduction, in_features // reduction)
        self.out_hidden = Linear(out_features // reduction, out_features // reduction)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.sides(x)
        return self.expanded(x, F.silu(self.in_hidden(left)), F.silu(self.out_hidden(right)))


def mean_mlp(channels: int, out_channels: int, bias: bool) -> nn.Sequential:
    """A two-layer MLP for the mean over the map."""
    return nn.Sequential(
        nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, out_channels, bias=bias)
    )


@KERNEL_PREDICTORS.register('gap')
class GapKernel(nn.Module):
    """All taps of each channel from an MLP of the mean over the map: ``C -> C -> C k²``."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.mlp = mean_mlp(channels, channels * kernel_size**2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.mlp(x.mean(dim=(1, 2)))  # (B, C * k²)
        return bounded(taps.unflatten(1, (-1, self.kernel_size, self.kernel_size)))


KERNEL_PREDICTORS.register('adaptive')(AdaptivePredictor)


@KERNEL_PREDICTORS.register('amp_dir')
class AmplitudeDirectionKernel(nn.Module):
    """Direction from the averaged map, length from its mean: ``Softplus(MLP(mean)) * K / (‖K‖ + 1e-6)``."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.direction = GridMLP(channels, kernel_size)
        self.amplitude = mean_mlp(channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        amplitude = F.softplus(self.amplitude(x.mean(dim=(1, 2))))  # (B, C)
        return amplitude[..., None, None] * bounded(self.direction(x), offset=1e-6)


@KERNEL_PREDICTORS.register('conv')
class ConvKernel(nn.Module):
    """Like `AdaptivePredictor`, after a depthwise 3x3 convolution of stride 2 and GELU."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.local = DepthwiseConv2d(channels, stride=2)
        self.grid = AdaptivePredictor(channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.grid(F.gelu(self.local(x)))
