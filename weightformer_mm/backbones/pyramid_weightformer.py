from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..arch import PYRAMID
from ..arguments import COUNTS, RULES, checked, resolve_arch, resolve_out_indices
from ..layers import BlockOptions, set_dilation
from ..layers.fused import built, normalise, with_half_copies
from ..layers.primitives import Conv2d, LayerNorm
from ..ops._shared.dispatch import product_dtype
from .base import MAX_TOKENS, DynamicBackbone, Sizes, at_own_sizes, in_graphs


@built
class ConvStem(nn.Module):
    """``(B, in_channels, H, W) -> (B, ceil(H/4), ceil(W/4), channels)``: two convolutions of stride 2."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels // 2, kernel_size=3, stride=2, padding=1)
        self.norm1 = LayerNorm(channels // 2)
        self.conv2 = Conv2d(channels // 2, channels, kernel_size=3, stride=2, padding=1)
        self.norm2 = LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        # Made channels-last while it is still small: a convolution's output has the layout of its input.
        # Where nothing is converted, `to` copies nothing.
        x = image.permute(0, 2, 3, 1)
        x = x.to(product_dtype(x), memory_format=torch.contiguous_format).contiguous()
        x = normalise(self.norm1, self.conv1(x), gelu=True)
        return normalise(self.norm2, self.conv2(x))


@built
class Downsample(nn.Module):
    """``(B, H, W, in_channels) -> (B, ceil(H/stride), ceil(W/stride), out_channels)``, between two stages."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2, dilation: int = 1):
        super().__init__()
        self.conv = Conv2d(
            in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation
        )
        self.norm = LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return normalise(self.norm, self.conv(x))


class Stage(nn.Module):
    """The downsampling to a resolution (in the first stage: the stem), and the blocks at that resolution."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], dilation: int):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        set_dilation(self.blocks, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Pass on the map after the blocks, so that hooks can see it.

        The network runs the blocks itself: a module's input stays in memory for as long as the module runs.
        If a whole stage were such a module, the peak would rise by the largest map of the network.
        """
        return x


@MODELS.register_module()
class PyramidWeightFormer(DynamicBackbone):
    """A hierarchical network (this project's own) made of the published blocks, with strides 4, 8, 16, 32.

    The pattern static, dynamic, static continues across the whole network.

    With ``output_stride``, later stages keep this stride, and dilate instead: the step to a stage has stride
    1 and the dilation of the stage before, and the depthwise convolutions of the stage twice that dilation.
    Parameters keep names and shapes. A static network's maps then have its values of stride 32 at every
    second, or fourth, pixel. Predicted kernels are dilated too, but predictions read all pixels of the finer
    map, so their values differ. Attention has no dilation; it mixes 4 or 16 times as many tokens.

    Args:
        arch: ``'micro'``, ``'nano'``, ``'tiny'``, ``'small'``, ``'base'`` or
            ``dict(embed_dims=[...], depths=[...])``, one entry per stage.
        in_channels: channels of the image.
        out_indices: stages whose output is returned, counted from 0 or, if negative, from the end.
        drop_rate, drop_path_rate, dynamic_linear, dynamic_conv, token_mixer, dynamic_every:
            see `BlockOptions`.
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k stages with their output norms.
        with_cp, memory_efficient, backend, init_cfg, max_tokens, cuda_graph: see `DynamicBackbone`. Dilated
            convolutions run in PyTorch, whatever the backend.
        output_stride: 16 or 8, the largest stride of a stage; 32 dilates nothing.

    Attributes:
        out_channels: channels of each output.
        out_strides: stride of each output, in pixels.

    Raises:
        ValueError: for an unknown arch, strategy or token mixer, outputs or frozen stages that do not
            exist, another output stride, or an image smaller than one patch (4x4 pixels).
    """

    unit_name = 'stages'
    first_conv = 'stages.0.downsample.conv1'
    arch_settings = PYRAMID
    least_size = 4

    @checked()
    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        dynamic_linear: str = 'bilateral',
        dynamic_conv: str = 'adaptive',
        token_mixer: str = 'dynamic',
        dynamic_every: int = 3,
        frozen_stages: int = -1,
        with_cp: bool = False,
        memory_efficient: bool = False,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
        max_tokens: int = MAX_TOKENS,
        cuda_graph: bool = False,
        output_stride: int = 32,
    ):
        super().__init__(
            *(frozen_stages, with_cp, memory_efficient, backend, init_cfg),
            *(in_channels, max_tokens, cuda_graph),
        )
        settings = resolve_arch(arch, self.arch_settings, {'embed_dims': COUNTS, **RULES})
        widths, depths = tuple(settings['embed_dims']), tuple(settings['depths'])
        if len(widths) != len(depths):
            raise ValueError(f'expected as many embed_dims as depths, got {widths} and {depths}')
        self.out_indices = resolve_out_indices(out_indices, len(depths), 'stages')
        self.num_blocks = sum(depths)
        built = self.out_indices[-1] + 1
        widths, depths = widths[:built], depths[:built]
        self.unit_channels = widths
        strides = [4 * 2**index for index in range(built)]
        most = strides[-1] if output_stride == 32 else output_stride  # of a fifth stage: 64
        self.unit_strides = tuple(min(stride, most) for stride in strides)
        self.dilations = tuple(map(operator.floordiv, strides, self.unit_strides))
        self.first_blocks = tuple(sum(depths[:index]) for index in range(built))
        options = BlockOptions(
            drop_rate, drop_path_rate, dynamic_linear, dynamic_conv, token_mixer, dynamic_every
        )
        channels = [width for width, depth in zip(widths, depths) for _ in range(depth)]
        blocks = options.build(channels, self.num_blocks)
        steps = map(operator.floordiv, self.unit_strides[1:], self.unit_strides)
        downsamples: list[nn.Module] = [ConvStem(in_channels, widths[0])]
        downsamples += map(Downsample, widths, widths[1:], steps, self.dilations)
        self.stages: Any = nn.ModuleList(
            Stage(downsample, blocks[first : first + depth], dilation)
            for downsample, first, depth, dilation in zip(
                downsamples, self.first_blocks, depths, self.dilations
            )
        )
        self.finish()

    @at_own_sizes  # takes the sizes away
    @in_graphs
    @with_half_copies
    def forward(self, image: Tensor, sizes: Sizes | None = None) -> tuple[Tensor, ...]:
        """``(B, in_channels, H, W) -> (B, C_i, ceil(H/stride_i), ceil(W/stride_i))`` per output.

        Args:
            sizes: of the images in a padded batch: see `at_own_sizes`.
        """
        outputs = []
        x = self.enter(0, self.checked(image))
        for index, stage in enumerate(self.stages):
            for block in stage.blocks:
                x = self.run_block(index, block, x)
            done = stage(x)  # unchanged, for hooks
            x = self.enter(index + 1, done)  # before the output, which may take its memory
            if index in self.out_indices:
                outputs.append(self.output(index, done, x))
            del done
        return tuple(outputs)

    def enter(self, index: int, x: Tensor) -> Tensor:
        """The map that a stage begins with, made of that before, or of the image; ``x`` after the last."""
        if index == len(self.stages):
            return x
        axis, halo = (1, self.dilations[index - 1]) if index else (2, 1)
        return self.run_downsample(index, self.stages[index].downsample, x, axis, halo)

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        return (self.stages[0].downsample,)

    def block_index(self, name: str) -> int | None:
        parts = name.split('.')
        if parts[0] != 'stages':
            return None
        first = self.first_blocks[int(parts[1])]
        if parts[2] == 'blocks':
            return first + int(parts[3])
        return -1 if first == 0 else first

    @staticmethod
    def read_sizes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]] | None:
        found = (re.match(r'stages\.(\d+)\.blocks\.(\d+)\.', name) for name in weights)
        blocks = {(int(match[1]), int(match[2])) for match in found if match}
        stages = sorted({stage for stage, _ in blocks})
        if not stages:
            return None
        biases = [weights.get(f'stages.{stage}.blocks.0.linear2.bias', ()) for stage in stages]
        depths = [1 + max(block for one, block in blocks if one == stage) for stage in stages]
        return dict(embed_dims=tuple(map(len, biases)), depths=tuple(depths))
