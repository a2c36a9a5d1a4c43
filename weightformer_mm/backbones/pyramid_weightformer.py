from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import ConvStem, Downsample
from .arch import resolve_arch, resolve_out_indices
from .base import DynamicBackbone


class Stage(nn.Module):
    """The downsampling that leads to a resolution (the stem, for the first), and the blocks at it."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Hand on the map after the blocks, where hooks find it.

        The network runs the blocks itself: what a module is called with stays in memory for as long as it
        runs, which for a whole stage raises the peak by the largest map of the network.
        """
        return x


@MODELS.register_module()
class PyramidWeightFormer(DynamicBackbone):
    """A hierarchical network of the published blocks, with strides 4, 8, 16, 32 (this project's own).

    The pattern static, dynamic, static runs over the whole network.

    Args:
        arch: ``'micro'``, ``'nano'``, ``'tiny'``, ``'small'``, ``'base'`` or
            ``dict(embed_dims=[...], depths=[...])``, one entry per stage.
        in_channels: channels of the image.
        out_indices: stages whose output is returned, from 0 or, negative, from the end.
        drop_rate: dropout after GELU and after the second linear layer of each MLP.
        drop_path_rate: stochastic depth of the last block's MLP; it grows linearly from 0.
        dynamic_linear: how the weight of each dynamic block's FC1 is predicted.
        dynamic_conv: how the kernel of each dynamic block's convolution is predicted.
        token_mixer: ``'dynamic'``, or ``'attention'`` for the quadratic baseline: self-attention in the
            dynamic blocks, which then have no use for the two strategies.
        dynamic_every: of how many blocks one is dynamic; published is 3, blocks 1, 4, 7, ...
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k stages, with
            their output norms.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
        memory_efficient: recompute of each block what is cheap (LayerNorm, convolution, prediction, GELU),
            and keep the product before GELU where that is faster. ``with_cp`` goes further and wins.
        backend: ``'torch'``, ``'triton'``, or ``'auto'``: what ``WEIGHTFORMER_BACKEND`` says, else Triton on
            a GPU that has it.
        init_cfg: mmengine's initialisation; without one, the published initialisation holds.

    Attributes:
        out_channels, out_strides: channels and stride in pixels of each output.

    Raises:
        ValueError: for an unknown arch, strategy or token mixer, outputs or frozen stages that do not
            exist, or an image smaller than one patch (4x4 pixels).
    """

    arch_settings = {
        'micro': dict(embed_dims=(32, 64, 128, 192), depths=(3, 3, 3, 3)),
        'nano': dict(embed_dims=(32, 64, 160, 256), depths=(3, 3, 15, 3)),
        'tiny': dict(embed_dims=(64, 128, 320, 512), depths=(3, 3, 15, 3)),
        'small': dict(embed_dims=(96, 192, 384, 640), depths=(3, 3, 21, 3)),
        'base': dict(embed_dims=(128, 256, 512, 768), depths=(3, 3, 21, 3)),
    }
    least_size = 4

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
    ):
        super().__init__(with_cp, memory_efficient, backend, frozen_stages, init_cfg)
        settings = resolve_arch(arch, self.arch_settings)
        widths, depths = tuple(settings['embed_dims']), tuple(settings['depths'])
        if len(widths) != len(depths):
            raise ValueError(f'expected as many embed_dims as depths, got {widths} and {depths}')
        self.out_indices = resolve_out_indices(out_indices, len(depths), 'stages')
        self.num_blocks = sum(depths)

        built = self.out_indices[-1] + 1
        self.check_frozen_stages(built)
        widths, depths = widths[:built], depths[:built]
        self.unit_channels = widths
        self.unit_strides = tuple(4 * 2**index for index in range(built))
        self.first_blocks = tuple(sum(depths[:index]) for index in range(built))
        channels = [width for width, depth in zip(widths, depths) for _ in range(depth)]
        blocks = self.build_blocks(
            channels,
            self.num_blocks,
            drop_rate,
            drop_path_rate,
            token_mixer,
            dynamic_linear,
            dynamic_conv,
            dynamic_every,
        )
        downsamples = [ConvStem(in_channels, widths[0])]
        downsamples += [Downsample(before, after) for before, after in zip(widths, widths[1:])]
        self.stages = nn.ModuleList(
            Stage(downsample, blocks[first : first + depth])
            for downsample, first, depth in zip(downsamples, self.first_blocks, depths)
        )
        self.finish()

    @property
    def units(self) -> nn.ModuleList:
        return self.stages

    def unit_parts(self, index: int) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        stage = self.stages[index]
        return (stage.downsample,), stage.blocks

    def hand_on(self, index: int, x: Tensor) -> Tensor:
        return self.stages[index](x)

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
        blocks = [
            name.split('.') for name in weights if re.match(r'stages\.\d+\.blocks\.\d+\.', name)
        ]
        if not blocks:
            return None
        widths, depths = {}, {}
        for _, stage, _, block, *_ in blocks:
            depths[int(stage)] = max(depths.get(int(stage), 0), int(block) + 1)
        for stage in depths:
            bias = weights.get(f'stages.{stage}.blocks.0.linear2.bias')
            widths[stage] = 0 if bias is None else len(bias)
        return dict(
            embed_dims=tuple(widths[stage] for stage in sorted(widths)),
            depths=tuple(depths[stage] for stage in sorted(depths)),
        )
