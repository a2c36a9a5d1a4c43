"""Necks and the norm of heads that go with them, registered in mmengine's root registry."""

from . import norm  # noqa: F401
from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['SimpleFeaturePyramid']
