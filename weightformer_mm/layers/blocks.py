"""The residual blocks of the networks: mix tokens, then apply an MLP (arXiv 2605.01711).

Each takes and returns a map ``(B, H, W, C)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..arguments import check_options
from ..ops._shared.dispatch import is_transformed
from .dynamic import DynamicDepthwiseConv2d, DynamicLinear
from .fused import built, fused
from .pattern import is_dynamic
from .primitives import DepthwiseConv2d, DropPath, LayerNorm, Linear
from .registry import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

MLP_RATIO = 4
HEAD_WIDTH = 32
TOKEN_MIXERS = ('dynamic', 'attention')


class _Block(nn.Module):
    """The MLP that every block ends with; the subclass decides how to mix tokens before it."""

    def build_mlp(
        self, linear1: nn.Module, channels: int, drop_rate: float, drop_path_rate: float
    ) -> None:
        self.norm2 = LayerNorm(channels)
        self.linear1 = linear1
        self.linear2 = Linear(MLP_RATIO * channels, channels)
        self.drop = nn.Dropout(drop_rate) if drop_rate > 0 else nn.Identity()
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def mlp(self, x: Tensor) -> Tensor:
        x = self.drop(F.gelu(self.linear1(x)))  # (B, H, W, 4 * C)
        return self.drop_path(self.drop(self.linear2(x)))


@built
class StaticBlock(_Block):
    """A depthwise convolution and an MLP, with static parameters.

    Args:
        channels: channels of input and output.
        drop_rate: dropout after GELU and after the second linear layer.
        drop_path_rate: stochastic depth of the MLP; the convolution has none, as published.
    """

    def __init__(self, channels: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0):
        super().__init__()
        self.dwc = DepthwiseConv2d(channels)
        linear1 = Linear(channels, MLP_RATIO * channels)
        self.build_mlp(linear1, channels, drop_rate, drop_path_rate)

    @fused
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dwc(x)
        x = x + self.mlp(self.norm2(x))
        return x


@built
class DynamicBlock(_Block):
    """The static block with a predicted convolution kernel and a predicted weight of its first linear layer.

    A LayerNorm comes first and *replaces* the residual stream, as published.

    Args:
        channels, drop_rate, drop_path_rate: as for `StaticBlock`.
        dynamic_linear: strategy of the `DynamicLinear`.
        dynamic_conv: strategy of the `DynamicDepthwiseConv2d`.

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
        super().__init__()
        self.dwc = DynamicDepthwiseConv2d(channels, strategy=dynamic_conv)
        linear1 = DynamicLinear(channels, MLP_RATIO * channels, strategy=dynamic_linear)
        self.build_mlp(linear1, channels, drop_rate, drop_path_rate)
        self.norm1 = LayerNorm(channels)

    @fused
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x)
        x = x + self.dwc(x)
        x = x + self.mlp(self.norm2(x))
        return x


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens of a map, with ``scaled_dot_product_attention``.

    Args:
        channels: channels of input and output. There is one head per 32 channels, or the next lower number
            of heads that divides the channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        most = max(1, channels // HEAD_WIDTH)
        self.num_heads = next(heads for heads in range(most, 0, -1) if channels % heads == 0)
        self.qkv = Linear(channels, 3 * channels)
        self.proj = Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
        # PyTorch's function has no forward-mode derivatives
        attend = ops.attention_as_mlp if is_transformed() else F.scaled_dot_product_attention
        mixed = attend(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))  # (B, heads, N, d) -> (B, H, W, C)


@built
class AttentionBlock(_Block):
    """The quadratic baseline: self-attention in place of the convolution, without a position embedding.

    Args:
        channels, drop_rate: as for `StaticBlock`.
        drop_path_rate: stochastic depth of attention and MLP.
    """

    def __init__(self, channels: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0):
        super().__init__()
        self.attention = SelfAttention(channels)
        linear1 = Linear(channels, MLP_RATIO * channels)
        self.build_mlp(linear1, channels, drop_rate, drop_path_rate)
        self.norm1 = LayerNorm(channels)

    @fused
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        x = x + self.mlp(self.norm2(x))
        return x


def set_dilation(model: nn.Module, dilation: int) -> None:
    """Set the taps of every depthwise convolution of ``model`` this many pixels apart.

    Weights and sizes of maps stay. Predictors' own convolutions are among them; attention has none.
    """
    for conv in model.modules():
        if isinstance(conv, (DepthwiseConv2d, DynamicDepthwiseConv2d)):
            conv.dilation = (dilation, dilation)
        if isinstance(conv, DepthwiseConv2d):
            conv.padding = conv.dilation


@dataclass(frozen=True)
class BlockOptions:
    """What the blocks of a network have in common.

    Attributes:
        drop_rate: dropout after GELU and after the second linear layer of each MLP.
        drop_path_rate: stochastic depth of the last block's MLP; it grows linearly from 0.
        dynamic_linear: how the weight of each dynamic block's first linear layer is predicted.
        dynamic_conv: how the kernel of each dynamic block's convolution is predicted.
        token_mixer: ``'dynamic'``, or ``'attention'`` for the quadratic baseline: self-attention in the
            dynamic blocks, which then ignore the two strategies.
        dynamic_every: one block in this many is dynamic; as published 3, which means blocks 1, 4, 7, ...

    Raises:
        ValueError: for an unknown strategy or token mixer, or a value that breaks its rule.
    """

    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    dynamic_linear: str = 'bilateral'
    dynamic_conv: str = 'adaptive'
    token_mixer: str = 'dynamic'
    dynamic_every: int = 3

    def __post_init__(self) -> None:
        check_options(vars(self))
        if self.token_mixer not in TOKEN_MIXERS:
            known = ', '.join(TOKEN_MIXERS)
            raise ValueError(f'unknown token_mixer {self.token_mixer!r}; choose one of {known}')
        # attention ignores them; a misspelt one is still wrong
        WEIGHT_PREDICTORS.check(self.dynamic_linear)
        KERNEL_PREDICTORS.check(self.dynamic_conv)

    def build(self, channels: Sequence[int], total: int) -> list[nn.Module]:
        """The first ``len(channels)`` of a network's ``total`` blocks."""
        rates = torch.linspace(0, self.drop_path_rate, total, device='cpu').tolist()
        return [
            self._block(index, width, rate)
            for index, (width, rate) in enumerate(zip(channels, rates))
        ]

    def _block(self, index: int, channels: int, drop_path_rate: float) -> nn.Module:
        if not is_dynamic(index, self.dynamic_every):
            return StaticBlock(channels, self.drop_rate, drop_path_rate)
        if self.token_mixer == 'attention':
            return AttentionBlock(channels, self.drop_rate, drop_path_rate)
        strategies = self.dynamic_linear, self.dynamic_conv
        return DynamicBlock(channels, self.drop_rate, drop_path_rate, *strategies)
