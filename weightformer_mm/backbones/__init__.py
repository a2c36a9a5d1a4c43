"""Backbones, registered in mmengine's root registry so that mmdet, mmseg and mmpretrain all find them."""

try:
    import mmengine  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "weightformer_mm.backbones needs mmengine: pip install 'weightformer_mm[onedl]' (maintained "
        "builds) or 'weightformer_mm[openmmlab]' (official builds)",
        name='mmengine',
    ) from error

from .pyramid_weightformer import PyramidWeightFormer
from .weightformer import WeightFormer

__all__ = ['PyramidWeightFormer', 'WeightFormer']
