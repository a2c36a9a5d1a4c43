"""The compared networks: the pyramid with each strategy, and peers of the same cost."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

from weightformer_mm.backbones.strategies import ATTENTION, PUBLISHED, STATIC, compared_strategies

MAIN = (STATIC, PUBLISHED, ATTENTION)
STRATEGIES = compared_strategies()

# Parameters and multiply-adds within 10 % of those of the pyramid micro, at 256x256 and at 360x480 pixels.
PEERS: dict[str, dict[str, Any]] = {
    'swin': dict(
        type='mmdet.SwinTransformer',
        embed_dims=24,
        depths=(2, 2, 6, 3),
        num_heads=(1, 2, 4, 8),
        window_size=8,
        drop_path_rate=0.0,
    ),
    'convnext': dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[2, 2, 6, 3], channels=[32, 64, 128, 208]),
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
    ),
    'resnet': dict(
        type='mmdet.ResNet', depth=18, base_channels=28, stem_channels=28, norm_eval=False
    ),
}
PEER_CHANNELS = {
    'swin': [24, 48, 96, 192],
    'convnext': [32, 64, 128, 208],
    'resnet': [28, 56, 112, 224],
}


def use_network(cfg: Config, name: str) -> None:
    """Put a network into a recipe; a peer begins with the first weights of its own class."""
    if name in STRATEGIES:
        cfg.model.backbone.update(STRATEGIES[name])
        return
    cfg.model.backbone = PEERS[name]
    channels = PEER_CHANNELS[name]
    if 'neck' in cfg.model:
        cfg.model.neck.in_channels = channels
    else:
        cfg.model.decode_head.in_channels = channels
        cfg.model.auxiliary_head.in_channels = channels[cfg.model.auxiliary_head.in_index]
