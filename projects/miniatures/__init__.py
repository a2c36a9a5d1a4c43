"""Miniatures: small generated data in the layouts of COCO, ADE20K and Cityscapes.

They are for tests and for trying a recipe without its data. Pictures and truth belong together, so a
training's loss falls; what it reaches says nothing about the real data.
"""

from .make import LAYOUTS, make_miniature

__all__ = ['LAYOUTS', 'make_miniature']
