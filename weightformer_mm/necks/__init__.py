"""Necks, and the norm for heads that go with them, registered in mmengine's root registry."""

from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['SimpleFeaturePyramid']
