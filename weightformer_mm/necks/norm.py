from __future__ import annotations

from mmengine.registry import MODELS
from timm.layers import LayerNorm2d

# LayerNorm over the channels of (B, C, H, W), for heads: norm_cfg=dict(type='LN2d'). mmpretrain and mmdet's
# ViTDet call it that, each in its own registry; mmcv's 'LN' is for channels-last maps.
MODELS.register_module('LN2d', module=LayerNorm2d)
