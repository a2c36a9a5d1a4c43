"""Generated data sets, and checks and guards for a user's own data sets. They need no torch."""

from .shapes.context import STATIC_REACH, ContextRules
from .shapes.make import ShapesConfig, make_shapes
from .shapes.scene import render_sample

__all__ = ['STATIC_REACH', 'ContextRules', 'ShapesConfig', 'make_shapes', 'render_sample']
