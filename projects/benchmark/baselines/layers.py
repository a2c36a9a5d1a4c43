"""The published layers as they stand: tokens ``(B, N, C)``, no re-association, ``B*C`` groups.

They compute what `weightformer_mm.layers` computes, from parameters of the same names. As in the published
form, a map is a view of the tokens: nothing is copied to NCHW unless an operation does so itself, which the
convolution over ``B*C`` groups does for more than one image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REDUCTION = 4
MLP_RATIO = 4
STD = 0.02  # of the initial weights


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """``(B, H * W, C) -> (B, C, H, W)``, a view."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def to_tokens(feature_map: Tensor) -> Tensor:
    """``(B, C, H, W) -> (B, H * W, C)``."""
    return feature_map.flatten(2).transpose(1, 2)


class LayerNorm(nn.LayerNorm):
    """Over the channels of tokens, with the published epsilon."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)


class WeightPredictor(nn.Module):
    """Both sides of the predicted weight, each expanded to full width for every pooled token."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.widths = in_features // REDUCTION, out_features // REDUCTION
        self.reduce = nn.Linear(in_features, sum(self.widths))
        self.expand_in = nn.Parameter(torch.randn(self.widths[0], in_features) * STD)
        self.expand_out = nn.Parameter(torch.randn(self.widths[1], out_features) * STD)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """``(B, N, Cin) -> (B, Cin, Cout)``."""
        num_tokens, in_features = tokens.shape[1:]
        # a side of length 1 is not pooled, which the published form cannot do
        pooled = F.avg_pool2d(to_map(tokens, height, width), (min(2, height), min(2, width)))
        left, right = F.silu(self.reduce(to_tokens(pooled))).split(self.widths, dim=-1)
        left, right = (
            left @ self.expand_in,
            right @ self.expand_out,
        )  # (B, N/4, Cin), (B, N/4, Cout)
        return left.transpose(1, 2) @ right * in_features**-0.5 / num_tokens


class DynamicLinear(nn.Module):
    """A linear layer with the sum of a static and a predicted weight, ``(B, N, Cin) -> (B, N, Cout)``."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_features, out_features) * STD)
        self.bias = nn.Parameter(torch.randn(out_features) * STD)
        self.predictor = WeightPredictor(in_features, out_features)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        update = self.predictor(tokens, height, width)
        update = update / (update.norm(dim=1, keepdim=True) + 1)
        return tokens @ (self.weight + update) + self.bias


class DynamicDepthwiseConv2d(nn.Module):
    """One grouped convolution over all channels of all images, ``(B, C, H, W) -> (B, C, H, W)``."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, 3, 3) * STD)
        self.bias = nn.Parameter(torch.randn(channels) * STD)
        self.predictor = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        update = self.predictor(F.adaptive_avg_pool2d(x, 3)).reshape(batch * channels, 1, 3, 3)
        update = update / (update.norm(dim=(2, 3), keepdim=True) + 1)
        out = F.conv2d(
            x.reshape(1, batch * channels, height, width),
            update + self.weight.repeat(batch, 1, 1, 1),
            self.bias.repeat(batch),
            padding=1,
            groups=batch * channels,
        )
        return out.reshape(x.shape)


class Block(nn.Module):
    """A residual block on tokens, static or dynamic, ``(B, N, C) -> (B, N, C)``."""

    def __init__(self, channels: int, dynamic: bool):
        super().__init__()
        hidden = MLP_RATIO * channels
        self.norm1 = LayerNorm(channels) if dynamic else None
        if dynamic:
            self.dwc: nn.Module = DynamicDepthwiseConv2d(channels)
            self.linear1: nn.Module = DynamicLinear(channels, hidden)
        else:
            self.dwc = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            self.linear1 = nn.Linear(channels, hidden)
        self.norm2 = LayerNorm(channels)
        self.linear2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        if self.norm1 is not None:
            tokens = self.norm1(tokens)
        tokens = tokens + to_tokens(self.dwc(to_map(tokens, height, width)))
        x = self.norm2(tokens)
        x = self.linear1(x, height, width) if self.norm1 is not None else self.linear1(x)
        return tokens + self.linear2(F.gelu(x))
