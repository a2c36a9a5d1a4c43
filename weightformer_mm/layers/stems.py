"""From image to tokens, and from one stage's tokens to the next's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .primitives import Conv2d, LayerNorm


class PatchEmbed(nn.Module):
    """Convolution of non-overlapping patches; the right and bottom are zero-padded to whole patches.

    Shape:
        ``(B, in_channels, H, W) -> (B, ceil(H/patch_size), ceil(W/patch_size), channels)``.
    """

    def __init__(self, in_channels: int, channels: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, channels, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        image = F.pad(image, (0, -width % self.patch_size, 0, -height % self.patch_size))
        return self.proj(image).permute(0, 2, 3, 1)


class ConvStem(nn.Module):
    """Two 3x3 stride-2 convolutions, each with LayerNorm, GELU between them; total stride 4.

    Shape:
        ``(B, in_channels, H, W) -> (B, ceil(H/4), ceil(W/4), channels)``.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels // 2, kernel_size=3, stride=2, padding=1)
        self.norm1 = LayerNorm(channels // 2)
        self.conv2 = Conv2d(channels // 2, channels, kernel_size=3, stride=2, padding=1)
        self.norm2 = LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        # made channels-last while it is small: the convolution's output has the layout of its input
        x = F.gelu(self.norm1(self.conv1(image.permute(0, 2, 3, 1).contiguous())))
        return self.norm2(self.conv2(x))


class Downsample(nn.Module):
    """3x3 stride-2 convolution and LayerNorm between two stages.

    Shape:
        ``(B, H, W, in_channels) -> (B, ceil(H/2), ceil(W/2), out_channels)``.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        self.norm = LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))
