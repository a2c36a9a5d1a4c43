"""The compared networks: the pyramid with each strategy, and peers of the same cost."""

from __future__ import annotations

from typing import Any

from mmdet.models.backbones import SwinTransformer
from mmengine.config import Config
from mmengine.model import xavier_init
from mmengine.registry import MODELS
from torch import nn

from weightformer_mm.backbones.strategies import ATTENTION, PUBLISHED, STATIC, compared_strategies

MAIN = (STATIC, PUBLISHED, ATTENTION)
STRATEGIES = compared_strategies()


@MODELS.register_module()
class SwinFromScratch(SwinTransformer):
    """mmdet's Swin with the larger first weights that the recipes give linear layers."""

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                xavier_init(module, distribution='uniform')


# name → backbone and its channels. Parameters and multiply-adds are within 10 % of the pyramid micro's.
# ConvNeXt has no layer scale: from 1e-6 on, its blocks would do nothing for much of a short training.
PEERS: dict[str, tuple[dict[str, Any], list[int]]] = {
    'swin': (
        dict(
            type='SwinFromScratch',
            embed_dims=24,
            depths=(2, 2, 6, 3),
            num_heads=(1, 2, 4, 8),
            window_size=8,
            drop_path_rate=0.0,
        ),
        [24, 48, 96, 192],
    ),
    'convnext': (
        dict(
            type='mmpretrain.ConvNeXt',
            arch=dict(depths=[2, 2, 6, 3], channels=[32, 64, 128, 224]),
            out_indices=(0, 1, 2, 3),
            gap_before_final_norm=False,
            layer_scale_init_value=0.0,
            init_cfg=[
                dict(type='TruncNormal', layer='Conv2d', std=0.02, bias=0.0),
                dict(type='Xavier', layer='Linear', distribution='uniform'),
            ],
        ),
        [32, 64, 128, 224],
    ),
    'resnet': (
        dict(type='mmdet.ResNet', depth=18, base_channels=28, stem_channels=28, norm_eval=False),
        [28, 56, 112, 224],
    ),
}


def use_network(cfg: Config, name: str) -> None:
    """Put a network into a recipe."""
    if name in STRATEGIES:
        cfg.model.backbone.update(STRATEGIES[name])
        return
    cfg.custom_imports.imports.append(__name__)
    cfg.model.backbone, channels = PEERS[name]
    if 'neck' in cfg.model:
        cfg.model.neck.in_channels = channels
    else:
        cfg.model.decode_head.in_channels = channels
        cfg.model.auxiliary_head.in_channels = channels[cfg.model.auxiliary_head.in_index]
    # ResNet has running statistics, which belong to the weights that are averaged
    cfg.default_hooks.ema.update_buffers = True
    # tables are no matrices that Muon could make orthogonal, and Swin's own recipe does not decay them
    tables = {'relative_position_bias_table': dict(decay_mult=0.0, use_fallback=True)}
    cfg.optim_wrapper.paramwise_cfg.custom_keys = tables
