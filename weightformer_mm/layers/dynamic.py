"""The two dynamic layers, with the published predictors of their parameters (arXiv 2605.01711)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from .. import ops
from ..ops._shared.dispatch import product_dtype
from .fused import as_built, built, has_geometry
from .registry import KERNEL_PREDICTORS, WEIGHT_PREDICTORS


@built
class DynamicLinear(nn.Module):
    """A linear layer whose weight is a static matrix plus one predicted from the image.

    ``(B, H, W, in_features) -> (B, H, W, out_features)``: ``y = x (W0 + dW / (‖dW‖₂ + 1)) + bias``. The norm
    is over the input features of each output feature; ``dW`` is computed from all tokens in linear time.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        reduction: the predictor's hidden width is the width it works on divided by this.
        strategy: how ``dW`` is predicted, a name in `WEIGHT_PREDICTORS`.

    Raises:
        ValueError: for an unknown strategy, or an input of another shape.
    """

    backend = 'auto'

    def __init__(
        self, in_features: int, out_features: int, reduction: int = 4, strategy: str = 'bilateral'
    ):
        super().__init__()
        self.in_features, self.out_features, self.strategy = in_features, out_features, strategy
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        for parameter in (self.weight, self.bias):
            trunc_normal_(parameter, std=0.02)
        self.predictor = WEIGHT_PREDICTORS.build(
            strategy, in_features=in_features, out_features=out_features, reduction=reduction
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.predictor is None:
            return F.linear(x, self.weight.T, self.bias)
        return ops.predicted_linear(x, self.predicted_weight(x), self.bias)

    def predicted_weight(self, x: Tensor) -> Tensor:
        """``W0 + dW / (‖dW‖₂ + 1)`` of each image, ``(B, H, W, Cin) -> (B, Cin, Cout)``."""
        dtype = product_dtype(x)
        if (parameters := self.bilateral_parameters()) is not None:
            return ops.bilateral_weight(x, *parameters, dtype=dtype, backend=self.backend)
        assert self.predictor is not None
        update = ops.predict(self.predictor, x)
        return ops.with_bounded_update(update, self.weight, 1, dtype, self.backend)

    def weight_of_parts(self, parts: Iterable[Tensor], x: Tensor) -> Tensor:
        """`predicted_weight` of a map that comes in parts, if the predictor is the published one.

        Its update is a mean over tokens: that of a map is the mean of those of its parts.

        Args:
            parts: whole rows of the map, an even number in all but the last.
            x: a map of the same shape.
        """
        assert self.predictor is not None
        predictor, share = self.predictor, 1 / (x.shape[1] * x.shape[2])
        updates = (ops.predict(predictor, p) * (p.shape[1] * p.shape[2] * share) for p in parts)
        update = functools.reduce(torch.Tensor.add_, updates)
        return ops.with_bounded_update(update, self.weight, 1, product_dtype(x), self.backend)

    def bilateral_parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
        """The static weight and the published predictor's parameters; None for another, or a changed one."""
        predictor: Any = self.predictor
        if not isinstance(predictor, BilateralPredictor) or not as_built(
            predictor, predictor.reduce
        ):
            return None
        reduce, left, right = predictor.reduce, predictor.expand_in, predictor.expand_out
        return self.weight, reduce.weight, reduce.bias, left, right

    def extra_repr(self) -> str:
        return f'{self.in_features}, {self.out_features}, strategy={self.strategy!r}'


@built
class BilateralPredictor(nn.Module):
    """The published strategy for linear layers: a product of two nonlinear maps of all tokens.

    ``(B, H, W, Cin) -> (B, Cin, Cout)``, not yet bounded; see `weightformer_mm.ops.bilateral_update`.
    """

    backend = 'auto'
    takes_half = True

    def __init__(self, in_features: int, out_features: int, reduction: int):
        super().__init__()
        hidden_in, hidden_out = in_features // reduction, out_features // reduction
        self.reduce = nn.Linear(in_features, hidden_in + hidden_out)
        self.expand_in = nn.Parameter(torch.empty(hidden_in, in_features))
        self.expand_out = nn.Parameter(torch.empty(hidden_out, out_features))
        for weight in (self.reduce.weight, self.expand_in, self.expand_out):
            trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.reduce.bias)

    def forward(self, x: Tensor) -> Tensor:
        if not as_built(self.reduce):
            return self.expanded(x, *self.sides(x))
        reduce, expand_in, expand_out = self.reduce, self.expand_in, self.expand_out
        return ops.bilateral_update(
            x, reduce.weight, reduce.bias, expand_in, expand_out, self.backend
        )

    def sides(self, x: Tensor) -> Sequence[Tensor]:
        """The hidden layers of the two sides, ``(B, Np, Cin//r)`` and ``(B, Np, Cout//r)``."""
        tokens = ops.pool_tokens(x.to(self.expand_in.dtype), self.backend)
        widths = [len(self.expand_in), len(self.expand_out)]
        return F.silu(self.reduce(tokens)).split(widths, dim=-1)

    def expanded(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """``E1ᵀ (leftᵀ right) E2 * Cin^-1/2 / N``."""
        core = ops.token_correlation(left, right, x.shape[1] * x.shape[2])  # (B, Cin//r, Cout//r)
        return self.expand_in.T @ (core @ self.expand_out) * x.shape[3] ** -0.5


@built
class DynamicDepthwiseConv2d(nn.Module):
    """A depthwise convolution with a static kernel plus one predicted from the image.

    ``(B, H, W, channels) -> (B, H, W, channels)``, stride 1. The kernel of each channel is ``W0`` plus what
    the strategy predicts; the published strategy predicts ``K / (‖K‖₂ + 1)``, with the norm over the taps.
    Dilation, see `set_dilation`, sets the taps apart and changes nothing in how they are predicted.

    Args:
        channels: channels of input and output.
        kernel_size: side of the kernel in pixels, odd.
        strategy: how the addition is predicted, a name in `KERNEL_PREDICTORS`.

    Raises:
        ValueError: for an unknown strategy, an even kernel size, or an input of another shape.
    """

    backend = 'auto'
    dilation = (1, 1)  # as in the static layers

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

    def forward(self, x: Tensor) -> Tensor:
        return ops.depthwise_conv(
            x, self.kernel(x), self.bias, backend=self.backend, dilation=self.dilation[0]
        )

    def grid_parameters(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """What makes a kernel of means over a grid; None if the predictor does more, or was changed."""
        predictor = self.predictor
        if not isinstance(predictor, AdaptivePredictor) or not as_built(predictor):
            return None
        return predictor.parameters_as_built()

    def kernel(self, x: Tensor) -> Tensor:
        """The kernel of each image, ``(B, C, 1, k, k)``; ``(1, C, 1, k, k)`` if nothing is predicted."""
        if self.predictor is None:
            return self.weight.unsqueeze(0)
        return self.weight + ops.predict(self.predictor, x).unsqueeze(2)

    def extra_repr(self) -> str:
        text = f'{self.channels}, kernel_size={self.kernel_size}, strategy={self.strategy!r}'
        return text if self.dilation == (1, 1) else f'{text}, dilation={self.dilation}'


class GridMLP(nn.Sequential):
    """Averages the map in as many cells as the kernel has taps, then applies an MLP.

    ``(B, H, W, C) -> (B, C, k, k)``, not yet bounded; cell ``(i, j)`` gives tap ``(i, j)``.
    """

    backend = 'auto'

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        parameters = self.parameters_as_built()
        if parameters is None:
            grid = ops.pool_grid(x, self.kernel_size, self.backend)
            return super().forward(grid.permute(0, 3, 1, 2))
        return ops.adaptive_update(x, self.kernel_size, *parameters, self.backend)

    def parameters_as_built(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Weight and bias of the hidden layer and weight of the last; None if a module was changed."""
        modules: list[Any] = list(self)
        if [type(module) for module in modules] != [nn.Conv2d, nn.GELU, nn.Conv2d]:
            return None
        hidden, activation, out = modules
        kept = as_built(hidden, activation) and as_built(out, bias=False)
        pointwise = has_geometry(hidden, size=1) and has_geometry(out, size=1)
        if not (kept and pointwise and activation.approximate == 'none'):
            return None
        return hidden.weight, hidden.bias, out.weight


def bounded(kernel: Tensor, offset: float = 1.0) -> Tensor:
    """``K / (‖K‖₂ + offset)``, with the norm over the taps of each channel."""
    return kernel / (torch.linalg.vector_norm(kernel, dim=(-2, -1), keepdim=True) + offset)


@built
class AdaptivePredictor(GridMLP):
    """The published strategy for convolutions: `GridMLP`, bounded."""

    takes_half = True

    def forward(self, x: Tensor) -> Tensor:
        return bounded(super().forward(x))
