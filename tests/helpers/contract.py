"""Every registered architecture of every backbone, and how to build and measure them."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer

BACKBONES = (PyramidWeightFormer, WeightFormer)
ARCHS = [(backbone, arch) for backbone in BACKBONES for arch in backbone.arch_settings]
ARCH_IDS = [f'{backbone.__name__}-{arch}' for backbone, arch in ARCHS]
MICRO = [
    (PyramidWeightFormer, dict(embed_dims=(8, 16, 16, 24), depths=(3, 3, 6, 3))),
    (WeightFormer, dict(embed_dims=24, depth=6)),
]
MICRO_IDS = [backbone.__name__ for backbone, _ in MICRO]
# small ones with arguments, and the ways to keep less for the backward pass
NETWORKS = {
    'pyramid': (
        PyramidWeightFormer,
        dict(arch=dict(embed_dims=(8, 16), depths=(1, 2)), out_indices=(0, 1)),
    ),
    'isotropic': (WeightFormer, dict(arch=dict(embed_dims=8, depth=3), patch_size=4)),
}
MODES = {'plain': {}, 'with_cp': dict(with_cp=True), 'efficient': dict(memory_efficient=True)}


def build(backbone, arch, **options):
    torch.manual_seed(0)
    return backbone(arch=arch, **options)


def depth_of(backbone, arch) -> int:
    """How many outputs the network could give: stages of a pyramid, blocks of an isotropic network."""
    return len(arch['depths']) if 'depths' in arch else arch['depth']


def multiply_adds(model, height: int, width: int) -> float:
    """Multiply-adds of matrix products and convolutions for one image, counted without computing them."""
    model = model.to('meta').eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, height, width, device='meta'))
    return counter.get_total_flops() / 2
