"""Miniatures: small generated data in the layouts of COCO, ADE20K and Cityscapes.

They are for tests and for trying a recipe where its data is not at hand. Pictures and truth belong together,
so a training's loss falls; what it reaches says nothing about the real data.
"""

from __future__ import annotations

from weightformer_mm.datasets.miniatures.config import LAYOUTS, MiniatureConfig, MiniatureError
from weightformer_mm.datasets.miniatures.make import make_miniature

__all__ = ['LAYOUTS', 'MiniatureConfig', 'MiniatureError', 'make_miniature']
