"""The published network and the pyramid of published blocks; the package's state dicts load into both."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from weightformer_mm.arch import ISOTROPIC, PYRAMID
from weightformer_mm.arguments import resolve_arch
from weightformer_mm.layers.pattern import is_dynamic

from .layers import Block, LayerNorm, to_map, to_tokens

PATCH_SIZE = 16


class PatchEmbed(nn.Module):
    """``(B, 3, H, W) -> (B, N, C)``."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(3, channels, PATCH_SIZE, PATCH_SIZE)

    def forward(self, image: Tensor) -> Tensor:
        return to_tokens(self.proj(image))


class PublishedWeightFormer(nn.Module):
    """The isotropic network as published: square images only, the side is the square root of ``N``.

    Args:
        arch: as for `WeightFormer`.
    """

    out_strides = (PATCH_SIZE,)

    def __init__(self, arch: str | dict = 'tiny'):
        super().__init__()
        settings = resolve_arch(arch, ISOTROPIC)
        width, depth = settings['embed_dims'], settings['depth']
        self.patch_embed = PatchEmbed(width)
        self.init_norm = LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, is_dynamic(index)) for index in range(depth))
        self.add_module(f'norm{depth - 1}', LayerNorm(width))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """``(B, 3, H, H) -> ((B, C, H/16, H/16),)``, ``H`` a multiple of 16."""
        tokens = self.init_norm(self.patch_embed(image))
        side = math.isqrt(tokens.shape[1])
        for block in self.blocks:
            tokens = block(tokens, side, side)
        tokens = getattr(self, f'norm{len(self.blocks) - 1}')(tokens)
        return (to_map(tokens, side, side).contiguous(),)


class Stem(nn.Module):
    """``(B, 3, H, W) ->`` tokens and size at stride 4."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels // 2, 3, stride=2, padding=1)
        self.norm1 = LayerNorm(channels // 2)
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = LayerNorm(channels)

    def forward(self, image: Tensor) -> tuple[Tensor, int, int]:
        x = self.conv1(image)
        tokens = F.gelu(self.norm1(to_tokens(x)))
        x = self.conv2(to_map(tokens, *x.shape[2:]))
        return (self.norm2(to_tokens(x)), *x.shape[2:])


class Downsample(nn.Module):
    """``(B, C, H, W) ->`` tokens and size at half the resolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.norm = LayerNorm(out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        x = self.conv(x)
        return (self.norm(to_tokens(x)), *x.shape[2:])


class Stage(nn.Module):
    """The downsampling to a resolution and the blocks at it; takes and returns ``(B, C, H, W)``."""

    def __init__(self, downsample: nn.Module, blocks: list[Block]):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        tokens, height, width = self.downsample(x)
        for block in self.blocks:
            tokens = block(tokens, height, width)
        return to_map(tokens, height, width)


class PlainPyramid(nn.Module):
    """The pyramid in plain eager PyTorch: published blocks that are told height and width.

    Args:
        arch: as for `PyramidWeightFormer`.
    """

    def __init__(self, arch: str | dict = 'tiny'):
        super().__init__()
        settings = resolve_arch(arch, PYRAMID)
        widths, depths = settings['embed_dims'], settings['depths']
        self.out_strides = tuple(4 * 2**index for index in range(len(widths)))
        self.stages = nn.ModuleList()
        for index, (width, depth) in enumerate(zip(widths, depths)):
            first = sum(depths[:index])
            blocks = [Block(width, is_dynamic(first + offset)) for offset in range(depth)]
            entrance = Downsample(widths[index - 1], width) if index else Stem(width)
            self.stages.append(Stage(entrance, blocks))
            self.add_module(f'norm{index}', LayerNorm(width))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` → a ``(B, C_i, ceil(H/stride_i), ceil(W/stride_i))`` per stage."""
        x, outputs = image, []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            tokens = getattr(self, f'norm{index}')(to_tokens(x))
            outputs.append(to_map(tokens, *x.shape[2:]).contiguous())
        return tuple(outputs)
