"""Data sets: generated ones, and checks and guards of a user's own. They need no torch."""

from .shapes.classes import (
    CLASSES,
    CONTEXT_CLASSES,
    CONTEXT_SEG_CLASSES,
    CONTEXT_SEG_PALETTE,
    PALETTE,
    SEG_CLASSES,
    SEG_PALETTE,
)
from .shapes.context import STATIC_REACH, ContextRules
from .shapes.make import ShapesConfig, make_shapes
from .shapes.scene import render_sample

__all__ = [
    'CLASSES',
    'CONTEXT_CLASSES',
    'CONTEXT_SEG_CLASSES',
    'CONTEXT_SEG_PALETTE',
    'PALETTE',
    'SEG_CLASSES',
    'SEG_PALETTE',
    'STATIC_REACH',
    'ContextRules',
    'ShapesConfig',
    'make_shapes',
    'render_sample',
]
