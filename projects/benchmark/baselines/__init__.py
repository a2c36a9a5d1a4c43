"""The networks as published, in plain PyTorch: what the package's own are measured against."""

from .networks import PlainPyramid, PublishedWeightFormer

__all__ = ['PlainPyramid', 'PublishedWeightFormer']
