from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import PatchEmbed
from ..layers.primitives import LayerNorm
from .arch import resolve_arch, resolve_out_indices
from .base import DynamicBackbone


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
        out_indices: blocks whose output is returned, from 0 or, negative, from the end.
        drop_rate: dropout after GELU and after the second linear layer of each MLP.
        drop_path_rate: stochastic depth of the last block's MLP; it grows linearly from 0.
        dynamic_linear: how the weight of each dynamic block's FC1 is predicted.
        dynamic_conv: how the kernel of each dynamic block's convolution is predicted.
        token_mixer: ``'dynamic'``, or ``'attention'`` for the quadratic baseline: self-attention in the
            dynamic blocks, which then have no use for the two strategies.
        dynamic_every: of how many blocks one is dynamic; published is 3, blocks 1, 4, 7, ...
        frozen_stages: -1 freezes nothing, 0 the patch embedding, k also the first k blocks,
            with the output norms after them.
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
            exist, or an image smaller than one patch.
    """

    arch_settings = {
        'tiny': dict(embed_dims=192, depth=17),
        'small': dict(embed_dims=384, depth=17),
        'base': dict(embed_dims=384, depth=17),
    }

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
    ):
        super().__init__(with_cp, memory_efficient, backend, frozen_stages, init_cfg)
        settings = resolve_arch(arch, self.arch_settings)
        width, depth = settings['embed_dims'], settings['depth']
        self.out_indices = resolve_out_indices(out_indices, depth, 'blocks')
        self.least_size = patch_size
        self.num_blocks = depth

        self.patch_embed = PatchEmbed(in_channels, width, patch_size)
        self.init_norm = LayerNorm(width)
        built = self.out_indices[-1] + 1
        self.unit_channels = (width,) * built
        self.unit_strides = (patch_size,) * built
        self.first_blocks = tuple(range(built))
        self.check_frozen_stages(built)
        self.blocks = nn.ModuleList(
            self.build_blocks(
                [width] * built,
                depth,
                drop_rate,
                drop_path_rate,
                token_mixer,
                dynamic_linear,
                dynamic_conv,
                dynamic_every,
            )
        )
        self.finish()

    @property
    def units(self) -> nn.ModuleList:
        return self.blocks

    def unit_parts(self, index: int) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        entrance = (self.patch_embed, self.init_norm) if index == 0 else ()
        return entrance, (self.blocks[index],)

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
