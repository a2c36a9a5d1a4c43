from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..arch import ISOTROPIC
from ..arguments import COUNT, RULES, checked, resolve_arch, resolve_out_indices
from ..layers import BlockOptions
from ..layers.fused import built, embed_patches, with_half_copies
from ..layers.primitives import LayerNorm
from ..ops._shared.dispatch import is_exporting, is_traced
from .base import MAX_TOKENS, DynamicBackbone, Sizes, at_own_sizes, in_graphs


@built
class PatchEmbed(nn.Module):
    """``(B, in_channels, H, W) -> (B, ceil(H/patch_size), ceil(W/patch_size), channels)``.

    A convolution of non-overlapping patches; zeros pad the right and bottom to whole patches.
    """

    def __init__(self, in_channels: int, channels: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, channels, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padding = (0, -width % self.patch_size, 0, -height % self.patch_size)
        if is_exporting():  # the convolution drops what is too much
            padding = (0, self.patch_size - 1, 0, self.patch_size - 1)
        if is_traced() or any(padding):
            image = F.pad(image, padding)
        return embed_patches(self.proj, image)


@MODELS.register_module()
class WeightFormer(DynamicBackbone):
    """The published isotropic network (arXiv 2605.01711): patch embedding, LN, equal blocks, LN.

    Nothing depends on the resolution: no position embedding, no class token. For dense prediction see
    `weightformer_mm.necks.SimpleFeaturePyramid`, which turns its single scale into a pyramid.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'`` (small, released at 448 pixels) or
            ``dict(embed_dims=int, depth=int)``.
        patch_size: side of a patch, and stride of the outputs, in pixels.
        in_channels: channels of the image.
        out_indices: blocks whose output is returned, counted from 0 or, if negative, from the end.
        drop_rate, drop_path_rate, dynamic_linear, dynamic_conv, token_mixer, dynamic_every:
            see `BlockOptions`.
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k blocks and output norms after them.
        with_cp, memory_efficient, backend, init_cfg, max_tokens, cuda_graph: see `DynamicBackbone`.

    Attributes:
        out_channels: channels of each output.
        out_strides: stride of each output, in pixels.

    Raises:
        ValueError: for an unknown arch, strategy or token mixer, outputs or frozen stages that do not
            exist, or an image smaller than one patch.
    """

    unit_name = 'blocks'
    first_conv = 'patch_embed.proj'
    arch_settings = ISOTROPIC

    @checked()
    def __init__(
        self,
        arch: str | Mapping[str, int] = 'tiny',
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
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
    ):
        super().__init__(
            *(frozen_stages, with_cp, memory_efficient, backend, init_cfg),
            *(in_channels, max_tokens, cuda_graph),
        )
        settings = resolve_arch(arch, self.arch_settings, {'embed_dims': COUNT, **RULES})
        width, self.num_blocks = settings['embed_dims'], settings['depth']
        self.out_indices = resolve_out_indices(out_indices, self.num_blocks, 'blocks')
        self.least_size = patch_size
        built = self.out_indices[-1] + 1
        self.unit_channels = (width,) * built
        self.unit_strides = (patch_size,) * built
        options = BlockOptions(
            drop_rate, drop_path_rate, dynamic_linear, dynamic_conv, token_mixer, dynamic_every
        )
        self.patch_embed = PatchEmbed(in_channels, width, patch_size)
        self.init_norm = LayerNorm(width)
        self.blocks = nn.ModuleList(options.build(self.unit_channels, self.num_blocks))
        self.finish()

    @at_own_sizes  # takes the sizes away
    @in_graphs
    @with_half_copies
    def forward(self, image: Tensor, sizes: Sizes | None = None) -> tuple[Tensor, ...]:
        """``(B, in_channels, H, W) -> (B, C, ceil(H/patch_size), ceil(W/patch_size))`` per output.

        Args:
            sizes: of the images in a padded batch: see `at_own_sizes`.
        """
        outputs = []
        x = self.run_downsample(0, self.patch_embed, self.checked(image), axis=2)
        x = self.run_norm(self.init_norm, x)
        for index, block in enumerate(self.blocks):
            x = self.run_block(index, block, x)
            if index in self.out_indices:
                outputs.append(self.output(index, x, x))
        return tuple(outputs)

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        return self.patch_embed, self.init_norm

    def block_index(self, name: str) -> int | None:
        if name.startswith(('patch_embed.', 'init_norm.')):
            return -1
        return int(name.split('.')[1]) if name.startswith('blocks.') else None

    @staticmethod
    def read_sizes(weights: Mapping[str, Tensor]) -> dict[str, int] | None:
        blocks = [name.split('.')[1] for name in weights if name.startswith('blocks.')]
        if 'init_norm.weight' not in weights or not blocks:
            return None
        return dict(embed_dims=len(weights['init_norm.weight']), depth=max(map(int, blocks)) + 1)
