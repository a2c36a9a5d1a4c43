"""The residual blocks of the networks: tokens are mixed, then an MLP (arXiv 2605.01711)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..ops._shared.dispatch import choose_backend
from .as_built import as_built
from .attention import SelfAttention
from .dynamic_depthwise_conv import DynamicDepthwiseConv2d
from .dynamic_linear import DynamicLinear
from .primitives import DepthwiseConv2d, DropPath, LayerNorm, Linear, norm_eps

MLP_RATIO = 4


class _Block(nn.Module):
    """Tokens are mixed, then an MLP with its residual; how they are mixed is the subclass's choice."""

    def __init__(
        self,
        linear1: nn.Module,
        channels: int,
        drop_rate: float,
        drop_path_rate: float,
        **mixer: nn.Module,
    ):
        super().__init__()
        for name, module in mixer.items():
            self.add_module(name, module)
        self.norm2 = LayerNorm(channels)
        self.linear1 = linear1
        self.linear2 = Linear(MLP_RATIO * channels, channels)
        self.drop = nn.Dropout(drop_rate) if drop_rate > 0 else nn.Identity()
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def mlp(self, x: Tensor, normed: Tensor | None = None) -> Tensor:
        """``x + DropPath(FC2(GELU(FC1(LN(x)))))``; ``normed`` is ``LN(x)``, if that is known."""
        if not self.fusible():
            hidden = F.gelu(self.linear1(self.norm2(x)))  # (B, H, W, 4 * C)
            return x + self.drop_path(self.drop(self.linear2(self.drop(hidden))))
        weight1, normed = self.weight1(x, normed)
        return ops.residual_mlp(
            x,
            self.norm2.weight,
            self.norm2.bias,
            weight1,
            self.linear1.bias,
            self.linear2.weight,
            self.linear2.bias,
            self.branch_scale(x),
            normed,
            norm_eps(),
        )

    def fusible(self) -> bool:
        """Whether the MLP may run as one operation around its modules."""
        drops = self.drop.training and not isinstance(self.drop, nn.Identity)
        parts = self.norm2, self.linear1, self.linear2, self.drop, self.drop_path
        return not drops and as_built(*parts)

    def weight1(self, x: Tensor, normed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """FC1's weight, ``(1, C, 4 * C)``, or ``(B, C, 4 * C)`` if ``LN(x)`` predicts it; and ``LN(x)``.

        The latter is None if nothing has needed it so far.
        """
        return self.linear1.weight.T.unsqueeze(0), normed

    def branch_scale(self, x: Tensor) -> Tensor | None:
        """What stochastic depth multiplies the branch of each image by, ``(B,)``; None for 1."""
        if isinstance(self.drop_path, nn.Identity) or not self.drop_path.training:
            return None
        return self.drop_path(x.new_ones(len(x), 1, 1, 1)).flatten()


class _ConvBlock(_Block):
    """A block whose tokens are mixed by a depthwise convolution with a residual."""

    backend = 'auto'

    def mixed(self, x: Tensor) -> Tensor:
        """``y = x + DWConv(x)``, then the MLP; one kernel convolves and normalises where Triton runs."""
        if not as_built(self.dwc):
            return self.mlp(x + self.dwc(x))
        fused = choose_backend(self.backend, x) == 'triton' and not ops.recomputes()
        if not fused or not self.fusible():
            return self.mlp(self.dwc(x, residual=True))
        mixed, normed = ops.depthwise_conv_norm(
            x,
            self.dwc.kernel(x),
            self.dwc.bias,
            self.norm2.weight,
            self.norm2.bias,
            norm_eps(),
            backend=self.backend,
        )
        return self.mlp(mixed, normed)


class StaticBlock(_ConvBlock):
    """``x = x + DWConv(x)``, then ``x = x + DropPath(FC2(GELU(FC1(LN(x)))))``; parameters as learned.

    Args:
        channels: channels of input and output.
        drop_rate: dropout after GELU and after FC2.
        drop_path_rate: stochastic depth of the MLP branch; the convolution branch has none, as published.

    Shape:
        ``(B, H, W, channels) -> (B, H, W, channels)``.
    """

    def __init__(self, channels: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0):
        dwc = DepthwiseConv2d(channels)
        linear1 = Linear(channels, MLP_RATIO * channels)
        super().__init__(linear1, channels, drop_rate, drop_path_rate, dwc=dwc)

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(x)


class DynamicBlock(_ConvBlock):
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
        dwc = DynamicDepthwiseConv2d(channels, strategy=dynamic_conv)
        linear1 = DynamicLinear(channels, MLP_RATIO * channels, strategy=dynamic_linear)
        super().__init__(linear1, channels, drop_rate, drop_path_rate, dwc=dwc)
        self.norm1 = LayerNorm(channels)

    def weight1(self, x: Tensor, normed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.linear1.predictor is None:
            return self.linear1.weight.unsqueeze(0), normed
        normed = self.norm2(x) if normed is None else normed
        return self.linear1.predicted_weight(normed), normed

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(self.norm1(x))


class AttentionBlock(_Block):
    """The quadratic baseline: ``x + MHSA(LN(x))``, then ``x + FC2(GELU(FC1(LN(x))))``, no position embedding.

    Args:
        channels: channels of input and output.
        drop_rate: dropout after GELU and after FC2.
        drop_path_rate: stochastic depth of both branches.

    Shape:
        ``(B, H, W, channels) -> (B, H, W, channels)``.
    """

    def __init__(self, channels: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0):
        attention = SelfAttention(channels)
        linear1 = Linear(channels, MLP_RATIO * channels)
        super().__init__(linear1, channels, drop_rate, drop_path_rate, attention=attention)
        self.norm1 = LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x + self.drop_path(self.attention(self.norm1(x))))
