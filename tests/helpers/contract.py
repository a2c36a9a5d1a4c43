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
